//! Connects to a destination: directly, or through the host's own proxy.
//!
//! For a direct connection the name is resolved exactly once: the connection goes to the address that was judged, thus a name that resolves
//! differently a moment later gains nothing. Through a proxy, the proxy resolves.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::index::{Destination, ProxyAddress};

use super::report::Trouble;

/// The longest answer to a `CONNECT`, in bytes.
const ANSWER: usize = 16 << 10;

/// Connects directly to an address of the destination's name.
pub(super) async fn directly(to: &Destination, patience: Duration) -> Result<TcpStream, Trouble> {
    within(to.to_string(), patience, async {
        let unresolved = |why: String| Trouble::Unresolved {
            host: to.host.clone(),
            why,
        };
        let found = lookup_host((to.host.as_str(), to.port)).await;
        let found: Vec<SocketAddr> = found
            .map_err(|error| unresolved(error.to_string()))?
            .collect();
        let (good, bad): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|found| to.reach.allows(found.ip()));
        if good.is_empty() {
            return Err(match bad.first() {
                Some(bad) => Trouble::WrongAddress {
                    host: to.host.clone(),
                    address: bad.ip(),
                },
                None => unresolved("it has no address".to_owned()),
            });
        }
        connect(&to.to_string(), &good[..]).await
    })
    .await
}

/// Connects to the host's own proxy.
pub(super) async fn to_proxy(
    proxy: &ProxyAddress,
    patience: Duration,
) -> Result<TcpStream, Trouble> {
    let name = format!("the proxy {}:{}", proxy.host, proxy.port);
    within(
        name.clone(),
        patience,
        connect(&name, (proxy.host.as_str(), proxy.port)),
    )
    .await
}

/// Opens a tunnel through the host's own proxy.
pub(super) async fn through(
    proxy: &ProxyAddress,
    to: &Destination,
    patience: Duration,
) -> Result<TcpStream, Trouble> {
    let mut stream = to_proxy(proxy, patience).await?;
    let name = format!("{}:{}", proxy.host, proxy.port);
    let unreachable = |why: String| Trouble::Unreachable {
        host: format!("the proxy {name}"),
        why,
    };
    let asked = async {
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        if let Some(authorization) = proxy.authorization() {
            request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        request.push_str("\r\n");
        let failed = |error: std::io::Error| unreachable(error.to_string());
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        // Read byte by byte, in order not to take bytes that follow the answer; it is a few hundred bytes once per connection.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= ANSWER {
                return Err(unreachable("its answer has no end".to_owned()));
            }
            answer.push(stream.read_u8().await.map_err(failed)?);
        }
        let line = String::from_utf8_lossy(&answer);
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        match status {
            Some(200..=299) => Ok(stream),
            Some(status) => Err(Trouble::Upstream {
                proxy: name.clone(),
                status,
                host: to.to_string(),
            }),
            None => Err(unreachable("it doesn't speak HTTP".to_owned())),
        }
    };
    within(format!("the proxy {name}"), patience, asked).await
}

async fn connect(name: &str, to: impl tokio::net::ToSocketAddrs) -> Result<TcpStream, Trouble> {
    let unreachable = |error: std::io::Error| Trouble::Unreachable {
        host: name.to_owned(),
        why: error.to_string(),
    };
    let stream = TcpStream::connect(to).await.map_err(unreachable)?;
    // Requests are small, and the client waits for their answers.
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(stream)
}

async fn within<T>(
    host: String,
    patience: Duration,
    task: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    timeout(patience, task).await.unwrap_or_else(|_| {
        Err(Trouble::Unreachable {
            host,
            why: format!("no answer within {} s", patience.as_secs_f32()),
        })
    })
}
