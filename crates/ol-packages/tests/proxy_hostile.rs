//! The proxy over real sockets: how it answers hostile requests, and names that resolve to private addresses.

mod proxying;

use ol_packages::index::{Host, Index, Upstream, Wanted};
use ol_packages::proxy::{ProxyRules, Trouble, serve};
use proxying::{HELLO, Server, connect, own, proxy, public, quick, say};
use tokio::net::TcpListener;

#[tokio::test]
async fn whatever_else_is_asked_for_is_refused_by_name() {
    let server = Server::start(HELLO).await;
    let port = server.at.port();
    let (proxy, at) = proxy(
        vec![own(server.at), public("pypi.org", 443)],
        Upstream::default(),
        quick(),
    )
    .await;
    let long = format!(
        "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nX: {}\r\n\r\n",
        "x".repeat(9000)
    );
    for (request, status, word) in [
        (
            connect("evil.example:443"),
            "403",
            "evil.example:443 is not a host",
        ),
        (
            connect("169.254.169.254:80"),
            "403",
            "169.254.169.254:80 is not a host",
        ),
        (
            connect(&format!("localhost:{port}")),
            "403",
            "is not a host",
        ),
        (connect(&format!("127.1:{port}")), "403", "is not a host"),
        (
            connect(&format!("2130706433:{port}")),
            "403",
            "is not a host",
        ),
        (
            connect(&format!("[::ffff:127.0.0.1]:{port}")),
            "403",
            "is not a host",
        ),
        (connect("pypi.org:22"), "403", "on another port"),
        (connect("PYPI.ORG.:22"), "403", "pypi.org:22"),
        (connect("pypi.org..:443"), "403", "is not a host"),
        (connect("pypi.org"), "403", "without a port"),
        (connect("pypi.org@evil.example:443"), "403", "user name"),
        (
            connect(&format!("me:secret@127.0.0.1:{port}")),
            "403",
            "user name",
        ),
        (
            format!("GET /simple/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"),
            "403",
            "this is a proxy",
        ),
        (
            format!("POST http://127.0.0.1:{port}/ HTTP/1.1\r\n\r\n"),
            "403",
            "another method",
        ),
        (
            format!("GET http://127.0.0.1:{port}@evil.example/ HTTP/1.1\r\n\r\n"),
            "403",
            "user name",
        ),
        (
            format!("GET https://127.0.0.1:{port}/ HTTP/1.1\r\n\r\n"),
            "403",
            "another scheme",
        ),
        (
            format!("GET http://127.0.0.1:{port}/ HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"),
            "403",
            "with a body",
        ),
        (
            format!(
                "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            "403",
            "with a body",
        ),
        (
            format!("GET http://127.0.0.1:{port}/ HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n"),
            "400",
            "",
        ),
        (
            format!("GET http://127.0.0.1:{port}/a b HTTP/1.1\r\n\r\n"),
            "400",
            "",
        ),
        (
            format!("GET http://127.0.0.1:{port}/ HTTP/1.1\r\nX : y\r\n\r\n"),
            "400",
            "",
        ),
        (
            format!(
                "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
            ),
            "400",
            "",
        ),
        ("\0\r\n\r\n".to_owned(), "400", ""),
        (long, "431", ""),
    ] {
        let answer = say(at, request.as_bytes()).await;
        let one_line: String = request.chars().take(90).collect();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{one_line:?}: {answer}"
        );
        assert!(
            answer.contains(word) && !answer.contains("secret"),
            "{one_line:?}: {answer}"
        );
        assert_eq!(
            answer.matches("HTTP/1.1").count(),
            1,
            "{one_line:?}: {answer}"
        );
    }
    let report = proxy.close();
    assert!(
        report
            .refused
            .iter()
            .any(|refused| refused.host == "evil.example" && refused.port == 443)
    );
    assert_eq!(report.troubles, [Trouble::LongHead { bytes: 8 << 10 }]);
    assert!(!format!("{report:?}").contains("secret"), "{report:?}");
    let mut asked = server.asked;
    assert!(
        asked.try_recv().is_err(),
        "nothing of it reached the server"
    );
}

#[tokio::test]
async fn a_name_that_leads_inside_is_no_hole() {
    let server = Server::start(HELLO).await;
    let port = server.at.port();
    let (proxy, at) = proxy(
        vec![public("localhost", port)],
        Upstream::default(),
        quick(),
    )
    .await;
    let answer = say(at, connect(&format!("LOCALHOST.:{port}")).as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 502") && answer.contains("pip_mirror"),
        "{answer}"
    );
    let trouble = &proxy.report().troubles[0];
    assert!(
        matches!(trouble, Trouble::WrongAddress { address, .. } if address.is_loopback()),
        "{trouble}"
    );
    // The same host works when the operator configured it.
    let host = Host::new(&|_| None, &|_| Err(std::io::ErrorKind::NotFound.into()));
    let mirror = format!("http://localhost:{port}/simple");
    let index = Index::of(
        &host,
        &Wanted {
            mirror: &mirror,
            package_hosts: &[],
        },
    )
    .expect("good");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let at = listener.local_addr().expect("bound");
    let _proxy = serve(listener, ProxyRules::of(&index, quick()));
    let answer = say(
        at,
        format!("GET http://localhost:{port}/ HTTP/1.1\r\n\r\n").as_bytes(),
    )
    .await;
    assert!(answer.ends_with("hello"), "{answer}");
}
