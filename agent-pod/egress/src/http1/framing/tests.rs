use super::*;

fn check_request(head: &str, expected: Result<Framing, Violation>) {
    assert_eq!(request(head.as_bytes()), expected, "{head:?}");
}

fn check_response(head: &str, expected: Result<u16, Violation>) {
    assert_eq!(response(head.as_bytes()), expected, "{head:?}");
}

#[test]
fn framing_of_requests() {
    let with = |lines: &str| format!("POST https://h/ HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
    for (lines, expected) in [
        ("", Ok(Framing::Length(0))),
        ("Content-Length: 5\r\n", Ok(Framing::Length(5))),
        ("Content-Length:5\r\n", Ok(Framing::Length(5))),
        ("Transfer-Encoding: Chunked\r\n", Ok(Framing::Chunked)),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(Violation::LengthTwice)),
        ("Transfer-Encoding: chunked\r\ncontent-length: 5\r\n", Err(Violation::LengthTwice)),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(Violation::ContentLength)),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(Violation::ContentLength)),
        ("Content-Length: 5, 5\r\n", Err(Violation::ContentLength)),
        ("Content-Length: +5\r\n", Err(Violation::ContentLength)),
        ("Content-Length: -5\r\n", Err(Violation::ContentLength)),
        ("Content-Length: 0x5\r\n", Err(Violation::ContentLength)),
        ("Content-Length:   5\r\n", Err(Violation::ContentLength)),
        ("Content-Length: 5 \r\n", Err(Violation::ContentLength)),
        ("Content-Length:\r\n", Err(Violation::ContentLength)),
        ("Content-Length: 18446744073709551621\r\n", Err(Violation::ContentLength)),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(Violation::TransferEncoding)),
        ("Transfer-Encoding: xchunked\r\n", Err(Violation::TransferEncoding)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(Violation::TransferEncoding)),
        ("Host: other\r\n", Err(Violation::Host)),
        ("Transfer-Encoding : chunked\r\n", Err(Violation::HeaderLine)),
        ("X\u{b}: y\r\n", Err(Violation::HeaderLine)),
        (": y\r\n", Err(Violation::HeaderLine)),
        ("no colon\r\n", Err(Violation::HeaderLine)),
        ("X: y\r\n folded\r\n", Err(Violation::HeaderLine)),
        ("X: a\u{1}b\r\n", Err(Violation::HeaderLine)),
        ("X: a\rb\r\n", Err(Violation::LineEnd)),
    ] {
        check_request(&with(lines), expected);
    }
}

#[test]
fn first_lines_of_requests() {
    for (line, expected) in [
        ("GET / HTTP/1.1", Ok(Framing::Length(0))),
        ("GET / HTTP/1.0", Ok(Framing::Length(0))),
        ("CONNECT h:443 HTTP/1.1", Ok(Framing::Connect)),
        ("GET /  HTTP/1.1", Err(Violation::StartLine)),
        (" GET / HTTP/1.1", Err(Violation::StartLine)),
        ("GET / HTTP/1.1 ", Err(Violation::StartLine)),
        ("GET /\t HTTP/1.1", Err(Violation::StartLine)),
        ("GET https://allowed\\@evil/ HTTP/1.1", Err(Violation::StartLine)),
        ("GET /a#b HTTP/1.1", Err(Violation::StartLine)),
        ("GET /\u{e9} HTTP/1.1", Err(Violation::StartLine)),
        ("G(T / HTTP/1.1", Err(Violation::StartLine)),
        ("PRI * HTTP/2.0", Err(Violation::StartLine)),
        ("GET /", Err(Violation::StartLine)),
        ("", Err(Violation::StartLine)),
    ] {
        check_request(&format!("{line}\r\nHost: h\r\n\r\n"), expected);
    }
    check_request("GET / HTTP/1.1\r\n\r\n", Err(Violation::Host));
    check_request("GET http://h/ HTTP/1.0\r\n\r\n", Ok(Framing::Length(0)));
    check_request(
        "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        Err(Violation::TransferEncoding),
    );
    check_request(
        "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\nContent-Length: 3\r\n\r\n",
        Err(Violation::ContentLength),
    );
    check_request(
        &format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(17_000)),
        Err(Violation::LineTooLong),
    );
    check_request(
        &format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(100)),
        Err(Violation::HeadTooLarge),
    );
    check_request(
        &format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(99)),
        Ok(Framing::Length(0)),
    );
}

#[test]
fn heads_of_responses() {
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", Ok(200)),
        ("HTTP/1.1 204\r\n\r\n", Ok(204)),
        ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", Ok(200)),
        ("HTTP/1.1 100 Continue\r\n\r\n", Ok(100)),
        ("HTTP/1.1 101 Switching\r\nUpgrade: foo\r\n\r\n", Err(Violation::Switching)),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            Err(Violation::LengthTwice),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", Err(Violation::ContentLength)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Err(Violation::TransferEncoding)),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Err(Violation::TransferEncoding)),
        ("HTTP/2 200 OK\r\n\r\n", Err(Violation::StartLine)),
        ("HTTP/1.1 2000 OK\r\n\r\n", Err(Violation::StartLine)),
        ("HTTP/1.1 099 OK\r\n\r\n", Err(Violation::StartLine)),
        ("HTTP/1.1 200 OK\r\nX y: z\r\n\r\n", Err(Violation::HeaderLine)),
    ] {
        check_response(head, expected);
    }
}

#[test]
fn ends_of_heads() {
    let check = |bytes: &[u8], expected| {
        assert_eq!(Search::default().end_of_head(bytes), expected, "{bytes:?}");
        let mut search = Search::default();
        let mut stepwise = (0..=bytes.len()).filter_map(|len| search.end_of_head(&bytes[..len]).transpose());
        assert_eq!(stepwise.next().transpose(), expected, "{bytes:?} byte by byte");
    };
    check(b"GET / HTTP/1.1\r\nHost: h\r\n\r\nrest", Ok(Some(27)));
    check(b"GET / HTTP/1.1\r\nHost: h\r\n", Ok(None));
    check(b"GET / HTTP/1.1\nHost: h\n\n", Err(Violation::LineEnd));
    check(b"GET / HTTP/1.1\r\nHost: h\0\r\n\r\n", Err(Violation::LineEnd));
    check(&vec![b'a'; HEAD_MAX + 1], Err(Violation::LineTooLong));
}

#[test]
fn every_violation_has_a_name() {
    for violation in Violation::ALL {
        assert_eq!(Violation::named(violation.name().as_bytes()), Some(violation));
    }
}
