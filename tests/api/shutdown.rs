//! The process: how it ends, and what it says.

use countersign::grpc::pb::RegisterRequest;
use rustix::process::Signal;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::{PASSWORD, TestDatabase, on_both_databases, process::TestProcess};

on_both_databases! {
    async fn sigterm_and_sigint_end_the_server_with_exit_code_0(database: TestDatabase) {
        for signal in [Signal::TERM, Signal::INT] {
            let server = TestProcess::start(&database).await;
            assert_eq!(server.end(signal).await, Some(0), "{signal:?}");
        }
    }

    async fn a_call_under_way_is_finished_before_the_server_ends(database: TestDatabase) {
        let slow = [("COUNTERSIGN_ARGON2_MEMORY_KIB", "65536"), ("COUNTERSIGN_ARGON2_ITERATIONS", "6")];
        let server = TestProcess::start_with(&database, &slow).await;
        let (mut client, mut health) = (server.auth(), HealthClient::new(server.channel.clone()));
        let call = client.register(RegisterRequest {
            email: "ada@example.org".to_owned(),
            password: PASSWORD.to_owned(),
            display_name: String::new(),
        });
        let end = async {
            // Frames of one connection are read in order: once this is answered, the server has the call.
            health.check(HealthCheckRequest::default()).await.unwrap();
            server.end(Signal::TERM).await
        };
        let (answer, code) = tokio::join!(call, end);
        assert_eq!(code, Some(0));
        answer.unwrap();
    }
}
