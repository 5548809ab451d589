//! What a full TLS handshake costs when there is nothing but rustls.

use std::{io::Write as _, path::PathBuf, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use super::error::Result;

/// How it is served.
#[derive(clap::Args)]
pub struct Settings {
    /// The certificate, PEM
    #[arg(long)]
    certificate: PathBuf,
    /// Its private key, PEM
    #[arg(long)]
    key: PathBuf,
}

/// Serves until the process is terminated: a handshake, one frame, and the end of the connection.
pub async fn serve(settings: Settings) -> Result<()> {
    let certificate = CertificateDer::from_pem_file(settings.certificate)?;
    let key = PrivateKeyDer::from_pem_file(settings.key)?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // As the service: no resumption.
    config.send_tls13_tickets = 0;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(
        std::io::stdout(),
        "tls listening grpc={}",
        listener.local_addr()?
    )?;
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let mut stream = acceptor.accept(stream).await?;
            // An empty SETTINGS frame of HTTP/2, which is what a client of the service reads first.
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
            stream.flush().await?;
            stream.read(&mut [0; 64]).await.map(drop)
        });
    }
}
