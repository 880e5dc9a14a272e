use super::*;

fn check(address: &str, expected: AddressClass) {
    let class = classify(address.parse().unwrap());
    // Which words a Forbidden one has is not tested, but that it has some.
    match (class, expected) {
        (AddressClass::Forbidden(what), AddressClass::Forbidden(_)) => assert!(!what.is_empty()),
        (class, expected) => assert_eq!(class, expected, "{address}"),
    }
}

#[test]
fn public() {
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "168.63.129.15",
        "100.63.0.1",
        "2606:4700::1111",
        "2a00:1450::1",
        "2001:4860:4860::8888",
        "2001:200::1",
        "3fff:1000::1",
        "::ffff:8.8.8.8",
        "::8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "2001:0:808:808::f7f7:f7f7",
    ] {
        check(address, AddressClass::Public);
    }
}

#[test]
fn private() {
    for address in [
        "10.0.0.0",
        "10.255.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.168.0.0",
        "192.168.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "100.100.100.199",
        "fc00::1",
        "fd00::1",
        "fdff:ffff::1",
        "::ffff:10.0.0.1",
        "::10.0.0.1",
        "::ffff:0:10.0.0.1",
        "64:ff9b::192.168.0.1",
        "2002:a00:1::1",
        "2001:0:808:808::f5ff:fffe",
        "2606:4700::5efe:10.0.0.1",
    ] {
        check(address, AddressClass::Private);
    }
}

#[test]
fn forbidden() {
    for address in [
        // Metadata.
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        "fe80::a9fe:a9fe",
        // The same, embedded.
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "::ffff:0:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2001:0:808:808::5601:5601",
        "2001:0:a9fe:a9fe::f7f7:f7f7",
        "::ffff:168.63.129.16",
        "::ffff:100.100.100.200",
        "64:ff9b::6464:64c8",
        "2606:4700::5efe:a9fe:a9fe",
        "2606:4700::200:5efe:7f00:1",
        // Loopback, unspecified, "this network".
        "127.0.0.1",
        "127.255.255.255",
        "::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::127.0.0.1",
        "2002:7f00:1::",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "::ffff:0.0.0.0",
        "::2",
        // Link-local, site-local, multicast, broadcast, reserved.
        "169.254.0.1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "feff::1",
        "224.0.0.1",
        "239.255.255.255",
        "ff02::1",
        "ff0e::1",
        "255.255.255.255",
        "240.0.0.1",
        "254.255.255.255",
        "192.88.99.1",
        "192.0.0.1",
        "::ffff:224.0.0.1",
        "64:ff9b::ffff:ffff",
        "64:ff9b:1::a00:1",
        "100::1",
        "200::1",
        "4000::1",
        "5f00::1",
        "fa00::1",
        // Documentation, benchmarks, other special purposes.
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "198.18.0.1",
        "198.19.255.255",
        "2001:db8::1",
        "3fff::1",
        "3fff:fff::1",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:1::1",
        "2001:1ff::1",
    ] {
        check(address, AddressClass::Forbidden(""));
    }
}

fn check_vet(address: &str, ranges: &[&str], expected: Result<(), &str>) {
    let ranges: Vec<IpNet> = ranges.iter().map(|range| range.parse().unwrap()).collect();
    let ip = address.parse().unwrap();
    let outcome = vet(ip, &ranges);
    assert_eq!(
        outcome.as_ref().map(|_| ()).map_err(|refusal| refusal.reason.as_str()),
        expected,
        "{address}"
    );
    if let Ok(vetted) = outcome {
        assert_eq!(vetted.ip(), ip);
    }
}

#[test]
fn private_ranges_are_for_private_addresses_that_they_contain() {
    check_vet("8.8.8.8", &[], Ok(()));
    check_vet("10.96.0.10", &[], Err("PrivateAddressNotGranted"));
    check_vet("10.96.0.10", &["10.96.0.0/16"], Ok(()));
    check_vet("10.96.0.10", &["192.168.0.0/16", "10.96.0.0/16"], Ok(()));
    check_vet("10.97.0.10", &["10.96.0.0/16"], Err("PrivateAddressNotGranted"));
    check_vet("fd00::1", &["10.0.0.0/8"], Err("PrivateAddressNotGranted"));
    check_vet("fd00::1", &["fd00::/8"], Ok(()));
    check_vet("::ffff:10.96.0.10", &["10.96.0.0/16"], Ok(()));
    check_vet("::ffff:10.97.0.10", &["10.96.0.0/16", "::/0"], Err("PrivateAddressNotGranted"));
}

#[test]
fn no_range_grants_what_is_forbidden() {
    let all = ["0.0.0.0/0", "::/0", "127.0.0.0/8", "169.254.0.0/16", "fd00::/8", "100.64.0.0/10"];
    for address in [
        "127.0.0.1",
        "::1",
        "169.254.169.254",
        "169.254.1.1",
        "fe80::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ] {
        check_vet(address, &all, Err("AddressForbidden"));
    }
}
