//! A tonic service that lets only good tokens through: `tonic_service http://127.0.0.1:50051 ACCESS_TOKEN`.
use std::{error::Error, sync::Arc};

use countersign_verifier::{Claims, Credential, Demand, RequireToken, Verifier, VerifierConfig};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};
#[allow(missing_docs, clippy::pedantic, reason = "generated code")]
pub mod shop {
    tonic::include_proto!("shop.v1");
}
use shop::{ListOrdersRequest, ListOrdersResponse, orders_service_server as server};
struct Orders;
#[tonic::async_trait]
impl server::OrdersService for Orders {
    async fn list_orders(
        &self,
        request: Request<ListOrdersRequest>,
    ) -> Result<Response<ListOrdersResponse>, Status> {
        let claims = request.extensions().get::<Arc<Claims>>();
        let claims = claims.ok_or_else(|| Status::unauthenticated("no token"))?;
        let orders = vec![format!("the orders of {}", claims.subject)];
        Ok(Response::new(ListOrdersResponse { orders }))
    }
}
/// Serves until the process ends.
pub async fn serve(verifier: Verifier, port: TcpListenerStream) -> Result<(), Box<dyn Error>> {
    let layer = RequireToken::grpc(verifier).demand(Demand::new().role("reader"));
    let orders = server::OrdersServiceServer::new(Orders);
    let mut server = Server::builder().layer(layer);
    Ok(server.add_service(orders).serve_with_incoming(port).await?)
}
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [endpoint, key] = [1, 2].map(|n| std::env::args().nth(n).expect("ENDPOINT SERVICE_KEY"));
    let credential = Credential::service_key(&endpoint, key)?;
    let config = VerifierConfig::new("http://localhost:50051", "countersign", credential);
    let verifier = Verifier::connect(&endpoint, config).await?;
    let port = tokio::net::TcpListener::bind("127.0.0.1:50052").await?;
    serve(verifier, TcpListenerStream::new(port)).await
}
