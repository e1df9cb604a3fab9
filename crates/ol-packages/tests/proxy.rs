//! The proxy over real sockets: what it passes on, also through the host's own proxy, and what can't be reached.

mod proxying;

use ol_packages::index::{Host, Index, Upstream, Wanted};
use ol_packages::proxy::Trouble;
use proxying::{HELLO, Server, connect, head, own, proxy, public, quick, say};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

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

/// The upstream proxy that a host's variables name.
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
