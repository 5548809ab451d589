//! An SMTP server (RFC 5321) that accepts, defers, refuses or hangs up, as the test wants.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::mailbox::Mail;

/// How the server treats one mail.
#[derive(Clone, Copy, Debug)]
pub enum Treatment {
    /// It takes it.
    Accept,
    /// It says 451 to the recipient, as greylisting does.
    Defer,
    /// It says 550 to the recipient.
    Refuse,
    /// It closes the connection when the mail has arrived, without an answer.
    HangUp,
    /// It never answers.
    Stall,
    /// It takes it, and never answers QUIT.
    SilentQuit,
    /// It says 535 to the credentials.
    RefuseLogin,
    /// It says 550 to the sender.
    RefuseSender,
}

/// The server; it ends with the test.
pub struct SmtpServer {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Mail>>>,
    treatments: Arc<Mutex<VecDeque<Treatment>>>,
    accepting: JoinHandle<()>,
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl SmtpServer {
    /// Treats the first mails like that, and accepts all others.
    pub async fn start(treatments: &[Treatment]) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), treatments).await
    }

    pub async fn start_at(address: SocketAddr, treatments: &[Treatment]) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<Mail>>>::default();
        let treatments = Arc::new(Mutex::new(treatments.iter().copied().collect()));
        let accepting = tokio::spawn({
            let (received, treatments) = (Arc::clone(&received), Arc::clone(&treatments));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(talk(stream, Arc::clone(&received), Arc::clone(&treatments)));
                }
            }
        });
        Self {
            address,
            received,
            treatments,
            accepting,
        }
    }

    /// The mails that were accepted.
    pub fn received(&self) -> Vec<Mail> {
        self.received.lock().unwrap().clone()
    }

    /// The mails that are still to be treated in a way of their own.
    pub fn untreated(&self) -> usize {
        self.treatments.lock().unwrap().len()
    }

    /// The variables of a server that sends its mails here.
    pub fn url(&self) -> String {
        format!("smtp://{}?tls=none", self.address)
    }
}

async fn talk(
    stream: TcpStream,
    received: Arc<Mutex<Vec<Mail>>>,
    treatments: Arc<Mutex<VecDeque<Treatment>>>,
) -> Option<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"220 test ESMTP\r\n").await.ok()?;
    let mut treatment = Treatment::Accept;
    while let Some(line) = lines.next_line().await.ok()? {
        let command = line
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        let answer = match command.as_str() {
            "EHLO" => "250-test\r\n250-AUTH PLAIN\r\n250 8BITMIME\r\n",
            "AUTH" => {
                let mut treatments = treatments.lock().unwrap();
                if matches!(treatments.front(), Some(Treatment::RefuseLogin)) {
                    treatments.pop_front();
                    "535 5.7.8 wrong credentials\r\n"
                } else {
                    "235 welcome\r\n"
                }
            }
            "MAIL" => {
                let next = treatments.lock().unwrap().pop_front();
                treatment = next.unwrap_or(Treatment::Accept);
                match treatment {
                    Treatment::RefuseSender => "550 5.7.1 not your address\r\n",
                    _ => "250 ok\r\n",
                }
            }
            "RCPT" => match treatment {
                Treatment::Defer => "451 4.7.1 come back later\r\n",
                Treatment::Refuse => "550 5.1.1 no such mailbox\r\n",
                Treatment::Stall => std::future::pending().await,
                _ => "250 ok\r\n",
            },
            "DATA" => {
                writer.write_all(b"354 go on\r\n").await.ok()?;
                let mut text = String::new();
                loop {
                    let line = lines.next_line().await.ok()??;
                    if line == "." {
                        break;
                    }
                    text.push_str(line.strip_prefix('.').unwrap_or(&line));
                    text.push_str("\r\n");
                }
                if matches!(treatment, Treatment::HangUp) {
                    return None;
                }
                received.lock().unwrap().push(Mail::read(&text));
                "250 taken\r\n"
            }
            "QUIT" => match treatment {
                Treatment::SilentQuit => std::future::pending().await,
                _ => "221 bye\r\n",
            },
            _ => "250 ok\r\n",
        };
        writer.write_all(answer.as_bytes()).await.ok()?;
    }
    Some(())
}
