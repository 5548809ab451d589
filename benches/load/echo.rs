//! The echo: what tonic costs when the service behind it does nothing.
//!
//! Written as tonic's code generator writes a service, served with the settings that the real service
//! has. An answer is as long as one of `ValidateToken`.

use std::{
    convert::Infallible,
    io::Write as _,
    sync::Arc,
    task::{Context, Poll},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

use super::{
    error::Result,
    loops::{self, Signatures},
};

/// The method that the driver calls: as long as ValidateToken's path, which HTTP/2 sends with every call.
pub const PATH: &str = "/countersign.echo.v1.EchoService/ValidateToken";

/// How the echo is served.
#[derive(clap::Args)]
pub struct Settings {
    /// Length of every answer's message
    #[arg(long)]
    answer_bytes: usize,
    /// Checks each request's signature with this ES256 key before it answers (uncompressed point, base64url)
    #[arg(long)]
    verify: Option<String>,
    /// Verifies so many ES256 signatures and makes one before it answers
    #[arg(long)]
    sign: Option<u32>,
}

/// Request and answer: one field of text, as long as it has to be.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Text {
    /// The text.
    #[prost(string, tag = "1")]
    pub text: String,
}

/// Serves until the process is terminated.
pub async fn serve(settings: Settings) -> Result<()> {
    let key = settings.verify.map(|key| URL_SAFE_NO_PAD.decode(key));
    // A field has two or three bytes before its text.
    let prefix = if settings.answer_bytes > 129 { 3 } else { 2 };
    let handler = Handler(Arc::new(Parts {
        answer: "x".repeat(settings.answer_bytes - prefix),
        key: key.transpose()?,
        signatures: settings.sign.map(Signatures::of),
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(
        std::io::stdout(),
        "echo listening grpc={}",
        listener.local_addr()?
    )?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .add_service(Echo(handler))
        .serve_with_incoming_shutdown(incoming, async {
            // Without a signal handler nothing is left to do but to serve.
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    Ok(())
}

#[derive(Clone)]
struct Echo(Handler);

#[derive(Clone)]
struct Handler(Arc<Parts>);

struct Parts {
    answer: String,
    key: Option<Vec<u8>>,
    signatures: Option<Signatures>,
}

impl Parts {
    fn accepts(&self, token: &str) -> bool {
        self.key
            .as_ref()
            .is_none_or(|key| loops::signed_by(key, token))
            && self.signatures.as_ref().is_none_or(Signatures::work)
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "countersign.echo.v1.EchoService";
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let handler = self.0.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Text, Text>::default());
            Ok(grpc.unary(handler, request).await)
        })
    }
}

impl UnaryService<Text> for Handler {
    type Response = Text;
    type Future = BoxFuture<'static, std::result::Result<Response<Text>, Status>>;

    fn call(&mut self, request: Request<Text>) -> Self::Future {
        let parts = Arc::clone(&self.0);
        Box::pin(async move {
            if parts.accepts(&request.get_ref().text) {
                let text = parts.answer.clone();
                Ok(Response::new(Text { text }))
            } else {
                Err(Status::unauthenticated("not signed"))
            }
        })
    }
}
