//! The proxy over real sockets: which limits end a connection, and how the proxy itself ends.

mod proxying;

use std::time::Duration;

use ol_packages::index::Upstream;
use ol_packages::proxy::{ProxyLimits, Trouble};
use proxying::{HELLO, Server, connect, head, own, proxy, quick};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

#[tokio::test]
async fn too_many_bytes_and_idleness_end_a_connection() {
    static LONG: [u8; 1 << 20] = [b'x'; 1 << 20];
    let server = Server::start(&LONG).await;
    let limits = ProxyLimits {
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

    // A server that never says anything, and a client that doesn't either, with its sending side closed or not.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let silent_at = silent.local_addr().expect("bound");
    let (proxy, at) = proxying::proxy(vec![own(silent_at)], Upstream::default(), quick()).await;
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
    let limits = ProxyLimits {
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
