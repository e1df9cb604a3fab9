//! Finds a server's address in its output.
//!
//! Exists because a free port is known only once it is taken. The line around it is for people, thus any text with `http://HOST:PORT` will
//! do.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ChildStdout;
use std::sync::mpsc;

use anyhow::{Context as _, Result, anyhow};

/// Copies every line to `log` until the output ends, and sends the first address found.
pub(super) fn copy_and_find(
    stdout: ChildStdout,
    mut log: File,
    found: &mpsc::Sender<Result<SocketAddr>>,
) {
    let mut sent = false;
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let _ = writeln!(log, "{line}");
        if let Some(place) = find_address(&line).filter(|_| !sent) {
            sent = true;
            let _ = found.send(resolve(&place));
        }
    }
}

/// `HOST:PORT` of the first `http://HOST:PORT` in `line`, whatever is around it.
fn find_address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("http://")?;
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric() && !".:-[]".contains(c))
        .unwrap_or(rest.len());
    let place = rest[..end].trim_end_matches(['.', ':', '-']);
    let (_, port) = place.rsplit_once(':')?;
    (!port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())).then(|| place.to_owned())
}

fn resolve(place: &str) -> Result<SocketAddr> {
    let mut address = place
        .to_socket_addrs()
        .with_context(|| format!("can't make an address of {place}"))?
        .min_by_key(SocketAddr::is_ipv6)
        .ok_or_else(|| anyhow!("{place} has no address"))?;
    if address.ip().is_unspecified() {
        address.set_ip([127, 0, 0, 1].into());
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::find_address;

    #[test]
    fn the_address_is_found_in_whatever_sentence() {
        for (line, place) in [
            ("listening on http://127.0.0.1:5000", Some("127.0.0.1:5000")),
            (
                "ready: http://localhost:80/run (pid 7)",
                Some("localhost:80"),
            ),
            (
                "\u{1b}[1mhttp://0.0.0.0:34567\u{1b}[0m.",
                Some("0.0.0.0:34567"),
            ),
            ("http://[::1]:81.", Some("[::1]:81")),
            ("{\"url\":\"http://127.0.0.1:9\"}", Some("127.0.0.1:9")),
            ("see http://example.org", None),
            ("nothing", None),
        ] {
            assert_eq!(find_address(line).as_deref(), place, "{line}");
        }
    }
}
