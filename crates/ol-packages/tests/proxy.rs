//! The proxy over real sockets: what passes, what hostile requests get, which limits end a connection, what the report says.

use std::net::SocketAddr;
use std::time::Duration;

use ol_packages::index::{Destination, Host, Index, Reach, Upstream, Wanted};
use ol_packages::proxy::{Limits, Policy, Proxy, Trouble, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A server that answers each connection's first request with what `answer` says, and hands out what it was asked.
struct Server {
    at: SocketAddr,
    asked: tokio::sync::mpsc::UnboundedReceiver<String>,
}

impl Server {
    async fn start(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let at = listener.local_addr().expect("bound");
        let (tell, asked) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let _ = tell.send(head(&mut stream).await);
                    let _ = stream.write_all(answer).await;
                });
            }
        });
        Self { at, asked }
    }
}

/// Reads to the end of a head.
async fn head(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

fn own(at: SocketAddr) -> Destination {
    Destination {
        host: at.ip().to_string(),
        port: at.port(),
        reach: Reach::Own,
    }
}

fn public(host: &str, port: u16) -> Destination {
    Destination {
        host: host.to_owned(),
        port,
        reach: Reach::Public,
    }
}

fn quick() -> Limits {
    Limits {
        idle: Duration::from_millis(200),
        head_bytes: 8 << 10,
        ..Limits::default()
    }
}

async fn proxy(
    destinations: Vec<Destination>,
    upstream: Upstream,
    limits: Limits,
) -> (Proxy, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let at = listener.local_addr().expect("bound");
    let policy = Policy {
        destinations,
        upstream,
        limits,
    };
    (serve(listener, policy), at)
}

/// Sends bytes, and reads until the proxy closes or says no more.
async fn say(at: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).await.expect("connected");
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn connect(target: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")
}

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-Kept: 2\r\n\r\nhello";

#[tokio::test]
async fn a_tunnel_carries_both_ways_and_counts() {
    let mut server = Server::start(b"back").await;
    let (proxy, at) = proxy(vec![own(server.at)], Upstream::default(), quick()).await;
    let mut stream = TcpStream::connect(at).await.expect("connected");
    stream
        .write_all(connect(&server.at.to_string()).as_bytes())
        .await
        .expect("sent");
    let answer = head(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stream.write_all(b"forth\r\n\r\n").await.expect("sent");
    assert_eq!(server.asked.recv().await.as_deref(), Some("forth\r\n\r\n"));
    let mut back = String::new();
    stream.read_to_string(&mut back).await.expect("read");
    assert_eq!(back, "back");
    let report = proxy.close();
    assert!(
        report.bytes > 13 && report.refused.is_empty() && report.troubles.is_empty(),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_plain_get_loses_what_belongs_to_one_hop() {
    let mut server = Server::start(HELLO).await;
    let (_proxy, at) = proxy(vec![own(server.at)], Upstream::default(), quick()).await;
    let request = format!(
        "GET http://{}/simple/?a=b HTTP/1.1\r\nHost: evil.example\r\nProxy-Authorization: Basic x\r\nConnection: close, x-mine\r\nX-Mine: 1\r\nAuthorization: Basic y\r\n\r\n",
        server.at
    );
    let answer = say(at, request.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"),
        "{answer}"
    );
    let lower = answer.to_ascii_lowercase();
    assert!(
        lower.contains("x-kept: 2") && !lower.contains("x-hop"),
        "{answer}"
    );
    let asked = server
        .asked
        .recv()
        .await
        .expect("asked")
        .to_ascii_lowercase();
    assert!(
        asked.starts_with("get /simple/?a=b http/1.1\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains(&format!("host: {}\r\n", server.at)),
        "{asked}"
    );
    assert!(
        asked.contains("authorization: basic y")
            && !asked.contains("proxy-")
            && !asked.contains("x-mine"),
        "{asked}"
    );
}

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
    // The same host, written by the operator, works.
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
    let _proxy = serve(listener, Policy::of(&index, quick()));
    let answer = say(
        at,
        format!("GET http://localhost:{port}/ HTTP/1.1\r\n\r\n").as_bytes(),
    )
    .await;
    assert!(answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn what_can_t_be_reached_is_said() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bound")
        .local_addr()
        .expect("bound");
    let (proxy, at) = proxy(
        vec![own(gone), public("nowhere.invalid", 443)],
        Upstream::default(),
        quick(),
    )
    .await;
    for target in [gone.to_string(), "nowhere.invalid:443".to_owned()] {
        let answer = say(at, connect(&target).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    }
    let troubles = proxy.report().troubles;
    assert!(
        matches!(troubles[0], Trouble::Unreachable { .. }),
        "{troubles:?}"
    );
    assert!(
        matches!(troubles[1], Trouble::Unresolved { .. }),
        "{troubles:?}"
    );
}

/// The upstream that a host's variables name.
fn upstream(variable: &str, value: &str) -> Upstream {
    let value = value.to_owned();
    let read = move |name: &str| (name == variable).then(|| value.clone());
    let host = Host::new(&read, &|_| Err(std::io::ErrorKind::NotFound.into()));
    Index::of(&host, &Wanted::default()).expect("good").upstream
}

#[tokio::test]
async fn the_host_s_own_proxy_is_gone_through() {
    let mut other = Server::start(b"HTTP/1.1 200 OK\r\n\r\nfrom afar").await;
    let up = upstream("ALL_PROXY", &format!("http://me:secret@{}", other.at));
    let (_proxy, at) = proxy(
        vec![public("pypi.invalid", 443), public("pypi.invalid", 80)],
        up,
        quick(),
    )
    .await;
    let answer = say(at, connect("pypi.invalid:443").as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("from afar"),
        "{answer}"
    );
    let asked = other.asked.recv().await.expect("asked");
    assert!(
        asked.starts_with("CONNECT pypi.invalid:443 HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains("Proxy-Authorization: Basic bWU6c2VjcmV0\r\n"),
        "{asked}"
    );
    let answer = say(at, b"GET http://pypi.invalid/x HTTP/1.1\r\n\r\n").await;
    assert!(answer.contains("from afar"), "{answer}");
    let asked = other.asked.recv().await.expect("asked");
    assert!(
        asked.starts_with("GET http://pypi.invalid/x HTTP/1.1\r\n"),
        "{asked}"
    );
}

#[tokio::test]
async fn what_the_host_s_proxy_refuses_is_said() {
    let other = Server::start(b"HTTP/1.1 407 No\r\n\r\n").await;
    let up = upstream("HTTPS_PROXY", &other.at.to_string());
    let (proxy, at) = proxy(vec![public("pypi.invalid", 443)], up, quick()).await;
    let answer = say(at, connect("pypi.invalid:443").as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 502") && answer.contains("answered 407"),
        "{answer}"
    );
    assert!(matches!(
        proxy.report().troubles[0],
        Trouble::Upstream { status: 407, .. }
    ));
}

#[tokio::test]
async fn too_many_bytes_and_idleness_end_a_connection() {
    static LONG: [u8; 1 << 20] = [b'x'; 1 << 20];
    let server = Server::start(&LONG).await;
    let limits = Limits {
        total_bytes: 1 << 19,
        ..quick()
    };
    let (proxy, at) = proxy(vec![own(server.at)], Upstream::default(), limits).await;
    let mut stream = TcpStream::connect(at).await.expect("connected");
    stream
        .write_all(connect(&server.at.to_string()).as_bytes())
        .await
        .expect("sent");
    head(&mut stream).await;
    stream.write_all(b"\r\n\r\n").await.expect("sent");
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read).await;
    assert!(read.len() < 1 << 20, "{}", read.len());
    assert!(
        matches!(proxy.report().troubles[0], Trouble::TooMuch { .. }),
        "{:?}",
        proxy.report()
    );

    // A server that never says anything, and a client that doesn't either, its sending side closed or not.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let silent_at = silent.local_addr().expect("bound");
    let (proxy, at) = self::proxy(vec![own(silent_at)], Upstream::default(), quick()).await;
    for half_closed in [false, true] {
        let mut stream = TcpStream::connect(at).await.expect("connected");
        stream
            .write_all(connect(&silent_at.to_string()).as_bytes())
            .await
            .expect("sent");
        head(&mut stream).await;
        let (_held, _) = silent.accept().await.expect("accepted");
        if half_closed {
            stream.shutdown().await.expect("closed");
        }
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(proxy.report().troubles.len(), 1, "{:?}", proxy.report());
    assert!(matches!(proxy.report().troubles[0], Trouble::Idle { .. }));
}

#[tokio::test]
async fn more_connections_wait_and_closing_ends_them_all() {
    let server = Server::start(HELLO).await;
    let limits = Limits {
        connections: 1,
        idle: Duration::from_secs(60),
        ..quick()
    };
    let (proxy, at) = proxy(vec![own(server.at)], Upstream::default(), limits).await;
    let request = connect(&server.at.to_string());
    let mut first = TcpStream::connect(at).await.expect("connected");
    first.write_all(request.as_bytes()).await.expect("sent");
    head(&mut first).await;
    let (done, second) = oneshot::channel();
    let asked = request.clone();
    tokio::spawn(async move {
        let mut second = TcpStream::connect(at).await.expect("connected");
        second.write_all(asked.as_bytes()).await.expect("sent");
        let _ = done.send(head(&mut second).await);
        let _ = second.read_to_end(&mut Vec::new()).await;
    });
    let mut second = second;
    assert!(second.try_recv().is_err(), "it waits");
    drop(first);
    assert!(second.await.expect("answered").starts_with("HTTP/1.1 200"));

    let mut third = TcpStream::connect(at).await.expect("connected");
    third.write_all(request.as_bytes()).await.expect("sent");
    drop(proxy);
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), third.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "it is closed");
    assert!(
        TcpStream::connect(at).await.is_err(),
        "nobody listens any more"
    );
}
