//! DNS questions by TCP: for answers that are too long for UDP.

use super::question::is_question;
use super::resolvers::Resolvers;
use super::turns::TurnCounts;
use super::{PATIENCE, PORT};
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// The most connections: for one sandbox, and for all.
const EACH: usize = 4;
const ALL: usize = 128;

/// The most questions on one connection, and how long to wait for each.
const QUESTIONS: usize = 64;
const IDLE: Duration = Duration::from_secs(10);

pub(super) async fn serve(listener: TcpListener, resolvers: Resolvers) {
    let turns = TurnCounts::new(EACH, ALL);
    loop {
        let (stream, asker) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!("a DNS connection could not be accepted: {error}");
                sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        // A connection without a turn is closed.
        let Some(turn) = turns.take(asker.ip()) else {
            continue;
        };
        let resolvers = resolvers.clone();
        tokio::spawn(async move {
            let _turn = turn;
            // On any failure the connection ends, which tells the asker enough.
            let _ = answer_all(stream, &resolvers).await;
        });
    }
}

async fn answer_all(mut stream: TcpStream, resolvers: &Resolvers) -> io::Result<()> {
    for _ in 0..QUESTIONS {
        let question = timeout(IDLE, message(&mut stream)).await??;
        if !is_question(&question) {
            return Ok(());
        }
        let Some(answer) = resolve(&question, &resolvers.now()).await else {
            return Ok(());
        };
        timeout(IDLE, put(&mut stream, &answer)).await??;
    }
    Ok(())
}

async fn resolve(question: &[u8], resolvers: &[IpAddr]) -> Option<Vec<u8>> {
    for resolver in resolvers {
        let asking = async {
            let mut stream = TcpStream::connect((*resolver, PORT)).await?;
            put(&mut stream, question).await?;
            message(&mut stream).await
        };
        match timeout(PATIENCE, asking).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!("the resolver {resolver} failed: {error}"),
            Err(_elapsed) => {}
        }
    }
    None
}

/// Reads one message, which is preceded by its length.
async fn message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn put(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let all = [&length.to_be_bytes()[..], message].concat();
    stream.write_all(&all).await
}
