//! DNS questions by UDP.

use super::question::{LONGEST, answers, is_question, number, renumber};
use super::resolvers::Resolvers;
use super::turns::TurnCounts;
use super::{PATIENCE, PORT};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

/// The most questions under way: for one sandbox, and for all.
const EACH: usize = 16;
const ALL: usize = 512;

pub(super) async fn serve(socket: UdpSocket, resolvers: Resolvers) {
    let socket = Arc::new(socket);
    let turns = TurnCounts::new(EACH, ALL);
    // One byte more than the limit, to detect longer messages.
    let mut space = [0; LONGEST + 1];
    loop {
        let (length, asker) = match socket.recv_from(&mut space).await {
            Ok(received) => received,
            Err(error) => {
                // Errors about an asker that is gone are reported here too.
                tracing::debug!("a DNS question could not be received: {error}");
                sleep(Duration::from_millis(1)).await;
                continue;
            }
        };
        let question = space.get(..length).unwrap_or_default();
        if length > LONGEST || !is_question(question) {
            continue;
        }
        // A question without a turn gets no answer; the asker will repeat it.
        let Some(turn) = turns.take(asker.ip()) else {
            continue;
        };
        let (question, socket, resolvers) =
            (question.to_vec(), Arc::clone(&socket), resolvers.now());
        tokio::spawn(async move {
            let _turn = turn;
            if let Some(answer) = resolve(question, &resolvers).await {
                // The asker may be gone by now.
                let _ = socket.send_to(&answer, asker).await;
            }
        });
    }
}

/// The answer of the first resolver that gives one.
async fn resolve(mut question: Vec<u8>, resolvers: &[IpAddr]) -> Option<Vec<u8>> {
    let asked_as = number(&question)?;
    for resolver in resolvers {
        match timeout(PATIENCE, ask(&mut question, *resolver)).await {
            Ok(Ok(mut answer)) => {
                renumber(&mut answer, asked_as);
                return Some(answer);
            }
            Ok(Err(error)) => tracing::debug!("the resolver {resolver} failed: {error}"),
            Err(_elapsed) => {}
        }
    }
    None
}

/// Asks one resolver, from a port and with a message number that nobody can guess.
async fn ask(question: &mut [u8], resolver: IpAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr = match resolver {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut number = [0; 2];
    rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty())?;
    renumber(question, number);
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect((resolver, PORT)).await?;
    socket.send(question).await?;
    let mut answer = vec![0; LONGEST];
    loop {
        let length = socket.recv(&mut answer).await?;
        if answers(answer.get(..length).unwrap_or_default(), number) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}
