//! URLs of PostgreSQL: every parameter is honoured or refused by name.

use std::{path::PathBuf, time::Duration};

use super::{
    postgres_parameters::Wrong,
    postgres_tls::TlsMode,
    postgres_url::{Place, PostgresUrl, TargetServer},
};

fn parse(query: &str) -> Result<PostgresUrl, Wrong> {
    PostgresUrl::parse(
        &format!("postgres://ada:hunter2@db/auth{query}"),
        String::new(),
    )
}

#[test]
fn every_parameter_is_honoured_or_refused_by_name() {
    let url = parse(
        "?application_name=a%20b&connect_timeout=10&keepalives_idle=30&tcp_user_timeout=9000\
         &target_session_attrs=primary&load_balance_hosts=random&gssencmode=disable\
         &options=-c%20work_mem%3D8MB&channel_binding=require",
    );
    let url = url.unwrap();
    assert_eq!(url.application_name, "a b");
    assert_eq!(url.connect_timeout, Some(Duration::from_secs(10)));
    assert_eq!(url.keepalive.idle, Duration::from_secs(30));
    assert_eq!(url.keepalive.user_timeout, Duration::from_secs(9));
    assert_eq!(url.target, TargetServer::Primary);
    assert!(url.is_shuffled);
    assert_eq!(url.credentials.get_options(), Some("-c work_mem=8MB"));
    for (query, name) in [
        ("?nonsense=hunter2", "nonsense"),
        ("?sslmode=allow", "sslmode"),
        ("?sslmode=verify-ca", "sslrootcert"),
        (
            "?sslmode=verify-full&sslrootcert=/nonexistent/ca.pem",
            "sslrootcert",
        ),
        ("?sslrootcert=system&sslmode=require", "sslmode"),
        ("?sslnegotiation=direct", "sslnegotiation"),
        ("?gssencmode=require", "gssencmode"),
        ("?target_session_attrs=standby", "target_session_attrs"),
        ("?target_session_attrs=read-only", "target_session_attrs"),
        ("?connect_timeout=soon", "connect_timeout"),
        ("?sslcert=/etc/passwd", "sslkey"),
        ("?passfile=/x", "passfile"),
        ("?service=x", "service"),
        ("?sslcrl=/x", "sslcrl"),
        ("?pgbouncer=true", "pgbouncer"),
        ("?sslmode=require&sslmode=disable", "sslmode"),
    ] {
        let wrong = parse(query).unwrap_err();
        assert!(wrong.contains(name), "{query}: {wrong}");
        assert!(!wrong.contains("hunter2"), "{query}: {wrong}");
    }
}

#[test]
fn sslmode_means_what_it_means_to_libpq() {
    let mode = |query: &str| parse(query).map(|url| url.tls.mode);
    assert_eq!(mode(""), Ok(TlsMode::Prefer));
    assert_eq!(mode("?sslmode=disable"), Ok(TlsMode::Disable));
    assert_eq!(mode("?sslmode=verify-full"), Ok(TlsMode::VerifyFull));
    assert_eq!(mode("?sslrootcert=system"), Ok(TlsMode::VerifyFull));
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().display();
    assert_eq!(
        mode(&format!("?sslmode=verify-ca&sslrootcert={file}")),
        Ok(TlsMode::VerifyCa)
    );
    assert_eq!(
        mode(&format!("?sslmode=require&sslrootcert={file}")),
        Ok(TlsMode::VerifyCa)
    );
}

#[test]
fn hosts_addresses_and_ports_are_paired() {
    let parse = |url: &str| PostgresUrl::parse(url, String::new());
    let hosts = |url: &str| {
        let hosts = parse(url).unwrap().hosts;
        let shown = hosts
            .iter()
            .map(|host| (host.name.clone(), host.place.clone(), host.port));
        shown.collect::<Vec<_>>()
    };
    let name = |name: &str| Place::Name(name.to_owned());
    assert_eq!(
        hosts("postgres://u@a:1,b:2/d"),
        [
            ("a".to_owned(), name("a"), 1),
            ("b".to_owned(), name("b"), 2)
        ]
    );
    let loopback = Place::Address("::1".parse().unwrap());
    assert_eq!(
        hosts("postgres://u@[::1]:7/d"),
        [("::1".to_owned(), loopback, 7)]
    );
    let socket = Place::Socket(PathBuf::from("/run/pg"));
    for url in [
        "postgres://u@%2Frun%2Fpg/d",
        "postgres:///d?host=/run/pg&user=u",
    ] {
        assert_eq!(hosts(url), [(String::new(), socket.clone(), 5432)]);
    }
    let folder = |path: &str| (String::new(), Place::Socket(PathBuf::from(path)), 5432);
    assert_eq!(
        hosts("postgres:///d?host=/run/a,%2Frun%2Fb&user=u"),
        [folder("/run/a"), folder("/run/b")]
    );
    assert_eq!(
        hosts("postgres:///d?host=a,b&user=u"),
        [
            ("a".to_owned(), name("a"), 5432),
            ("b".to_owned(), name("b"), 5432)
        ]
    );
    let address = Place::Address("10.0.0.7".parse().unwrap());
    assert_eq!(
        hosts("postgres://u@db.example/d?hostaddr=10.0.0.7"),
        [("db.example".to_owned(), address, 5432)]
    );
    for url in [
        "postgres://u@a,b/d?hostaddr=10.0.0.7",
        "postgres:///d?user=u",
        "postgres:///d?host=a,&user=u",
        "postgres://u@a/d?port=0",
    ] {
        assert!(parse(url).is_err(), "{url}");
    }
}

#[test]
fn only_this_machine_is_local() {
    let is_local = |hosts: &str| {
        PostgresUrl::parse(&format!("postgres://u@{hosts}/d"), String::new())
            .unwrap()
            .is_local()
    };
    for hosts in ["localhost", "127.0.0.1", "[::1]", "%2Frun%2Fpg"] {
        assert!(is_local(hosts), "{hosts}");
    }
    for hosts in [
        "db.example",
        "localhost,db.example",
        "10.0.0.1",
        "127.0.0.1.example",
    ] {
        assert!(!is_local(hosts), "{hosts}");
    }
}
