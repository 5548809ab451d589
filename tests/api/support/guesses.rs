//! Wrong passwords for one account, many at once, and what came of them.

use std::time::Duration;

use futures_util::future::join_all;
use tonic::{Code, Status};

use super::{TestServer, failure, is_undecided};

/// A password that nobody has.
pub const WRONG: &str = "not the password of anyone";

/// The longest delay of an account.
pub const CAP: Duration = Duration::from_secs(15 * 60);

/// How many delays end within that time, counted from the failure that reached the limit: after 1 s, 3 s, 7 s and so on.
/// After each of them one more guess is judged.
pub fn delays_within(time: Duration) -> usize {
    usize::try_from((time.as_secs() + 1).ilog2()).unwrap()
}

/// What came of attempts at once.
#[derive(Default)]
pub struct Guesses {
    /// Answers of `INVALID_CREDENTIALS`.
    pub judged: usize,
    /// Those of `ACCOUNT_THROTTLED`.
    pub delays: Vec<Duration>,
    /// Answers without a verdict, as a busy machine gives them: the attempt may have been counted or not, and is made again.
    pub unanswered: usize,
}

/// Attempts at once, by turns on each replica.
pub async fn guess_at_once(servers: &[TestServer], email: &str, count: usize) -> Guesses {
    let guess = async |server: &TestServer| {
        let mut unanswered = 0;
        loop {
            let status = server.login_as(email, WRONG).await.unwrap_err();
            if !is_undecided(&status) {
                return (status, unanswered);
            }
            unanswered += 1;
        }
    };
    let attempts = (0..count).map(|i| guess(&servers[i % servers.len()]));
    let mut guesses = Guesses::default();
    for (status, unanswered) in join_all(attempts).await {
        guesses.unanswered += unanswered;
        if failure(&status).reason == "INVALID_CREDENTIALS" {
            guesses.judged += 1;
        } else {
            guesses.delays.push(throttled(&status));
        }
    }
    guesses
}

/// The delay of an attempt that must have been refused for it.
pub fn throttled(status: &Status) -> Duration {
    let failure = failure(status);
    assert_eq!(
        (failure.code, failure.reason.as_str()),
        (Code::ResourceExhausted, "ACCOUNT_THROTTLED")
    );
    let delay = failure.details.retry_info().unwrap().retry_delay.unwrap();
    assert!(delay > Duration::ZERO && delay <= CAP, "{delay:?}");
    delay
}
