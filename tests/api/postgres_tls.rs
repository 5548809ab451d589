//! TLS to PostgreSQL: `sslmode` and `sslrootcert` of the URL are honoured, and a server that does not prove itself is refused.

use std::{fs, process::Output};

use crate::support::{Kind, TestDatabase, cluster::Cluster, process::run, tls::Authority};

/// Runs `migrate` on the cluster's database at that host, with these parameters in the URL.
async fn migrate(cluster: &Cluster, host: &str, parameters: &str) -> Output {
    // Only for the other variables.
    let database = TestDatabase::create(Kind::Sqlite).await;
    let url = format!("{}?{parameters}", cluster.url()).replace("127.0.0.1", host);
    run(
        &database,
        &[("COUNTERSIGN_DATABASE_URL", &url)],
        &["migrate"],
    )
    .await
}

#[tokio::test]
async fn the_server_is_verified_as_far_as_sslmode_says() {
    let cluster = Cluster::start();
    let authority = Authority::new("databases");
    let certificate = authority.sign("localhost", |_| {});
    cluster.enable_tls(&certificate.pem, &certificate.key);
    let folder = tempfile::tempdir().unwrap();
    let (right, wrong) = (
        folder.path().join("right.crt"),
        folder.path().join("wrong.crt"),
    );
    fs::write(&right, &authority.pem).unwrap();
    fs::write(&wrong, Authority::new("databases").pem).unwrap();
    let (right, wrong) = (right.display(), wrong.display());
    for (host, parameters) in [
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={right}"),
        ),
        (
            "127.0.0.1",
            format!("sslmode=verify-ca&sslrootcert={right}"),
        ),
        ("127.0.0.1", "sslmode=require".to_owned()),
    ] {
        let migrated = migrate(&cluster, host, &parameters).await;
        assert_eq!(
            migrated.status.code(),
            Some(0),
            "{host} {parameters}: {migrated:?}"
        );
    }
    for (host, parameters) in [
        // Another name, another authority, one that the system does not know.
        (
            "127.0.0.1",
            format!("sslmode=verify-full&sslrootcert={right}"),
        ),
        (
            "localhost",
            format!("sslmode=verify-full&sslrootcert={wrong}"),
        ),
        (
            "localhost",
            format!("sslmode=verify-ca&sslrootcert={wrong}"),
        ),
        ("localhost", "sslmode=verify-full".to_owned()),
    ] {
        let refused = migrate(&cluster, host, &parameters).await;
        let told = String::from_utf8_lossy(&refused.stderr);
        assert_ne!(
            refused.status.code(),
            Some(0),
            "{host} {parameters}: {told}"
        );
        assert!(told.contains("certificate"), "{host} {parameters}: {told}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_the_url_demands_it() {
    let cluster = Cluster::start();
    let refused = migrate(&cluster, "localhost", "sslmode=require").await;
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_ne!(refused.status.code(), Some(0), "{told}");
    assert!(told.contains("TLS"), "{told}");
    let migrated = migrate(&cluster, "localhost", "sslmode=disable").await;
    assert_eq!(migrated.status.code(), Some(0), "{migrated:?}");
}
