//! Names to addresses in a static binary, which these tests are.

use redoubt_vault::{ResolveError, Resolver};

#[tokio::test]
async fn names_and_addresses() {
    let resolver = Resolver::from_system().unwrap();
    assert!(resolver.lookup("localhost").await.unwrap().iter().all(std::net::IpAddr::is_loopback));
    assert_eq!(
        resolver.lookup("192.0.2.7").await.unwrap(),
        ["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(
        resolver.lookup("2001:db8::7").await.unwrap(),
        ["2001:db8::7".parse::<std::net::IpAddr>().unwrap()]
    );
    assert!(
        matches!(resolver.lookup("redoubt.invalid").await, Err(ResolveError::Lookup { host, .. }) if host == "redoubt.invalid")
    );
}
