//! The guest that a fake sandbox runs (docs/reference/guest-protocol.md); its function does what its event says.
//!
//! An event is one word and an argument: `say TEXT` is answered by TEXT, `sleep MS TEXT` by TEXT after that time, `die` ends the process,
//! `hang` is never answered, `raise` is an error of the function, `twist` breaks the protocol.

use ol_sandbox_fake::Inside;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const END: u8 = 1;
const BIND: u8 = 1;
const CALL: u8 = 2;
const ZYGOTE: u8 = 6;
const WARM: u8 = 7;
const READY: u8 = 16;
const BOUND: u8 = 17;
const BIND_FAILED: u8 = 18;
const RESULT: u8 = 19;
const FAULT: u8 = 20;
const WARMED: u8 = 22;

/// Runs until the worker or the function ends it.
pub(crate) async fn run(mut inside: Inside) {
    // A broken connection ends a guest; that is no failure.
    let _ = serve(&mut inside).await;
}

async fn serve(inside: &mut Inside) -> io::Result<()> {
    let hello = br#"{"runtime": "fake", "version": "1", "magic": "00"}"#;
    send(&mut inside.guest, READY, 0, hello).await?;
    loop {
        let (kind, id, payload) = receive(&mut inside.guest).await?;
        inside.runs().await;
        match kind {
            BIND if payload.ends_with(b"broken") => {
                return send(&mut inside.guest, BIND_FAILED, 0, b"it is broken").await;
            }
            BIND => send(&mut inside.guest, BOUND, 0, &sectioned(r#"{"kind": "f"}"#)).await?,
            ZYGOTE => {
                let head = sectioned(r#"{"kind": "zygote"}"#);
                send(&mut inside.guest, BOUND, 0, &head).await?;
            }
            WARM => send(&mut inside.guest, WARMED, 0, b"").await?,
            CALL => {
                let event = String::from_utf8_lossy(&payload[4..]).into_owned();
                if !answer(inside, id, &event).await? {
                    return Ok(());
                }
            }
            _ => {}
        }
    }
}

/// Does what `event` says; returns false if the process is to end.
async fn answer(inside: &mut Inside, id: u32, event: &str) -> io::Result<bool> {
    let (word, rest) = event.split_once(' ').unwrap_or((event, ""));
    let text = match word {
        "die" => return Ok(false),
        "hang" => std::future::pending().await,
        "raise" => {
            let fault = [&500_u16.to_le_bytes()[..], b"raised"].concat();
            send(&mut inside.guest, FAULT, id, &fault).await?;
            return Ok(true);
        }
        "twist" => {
            send(&mut inside.guest, RESULT, id + 1000, &sectioned("")).await?;
            return Ok(true);
        }
        "sleep" => {
            let (time, text) = rest.split_once(' ').unwrap_or((rest, ""));
            tokio::time::sleep(Duration::from_millis(time.parse().expect("a number"))).await;
            // If the guest was paused meanwhile, it answers when it runs again.
            inside.runs().await;
            text
        }
        _ => rest,
    };
    let mut result = sectioned("");
    result.extend(text.as_bytes());
    send(&mut inside.guest, RESULT, id, &result).await?;
    Ok(true)
}

fn sectioned(head: &str) -> Vec<u8> {
    let length = u32::try_from(head.len()).expect("short");
    [&length.to_le_bytes()[..], head.as_bytes()].concat()
}

async fn send(to: &mut UnixStream, kind: u8, id: u32, payload: &[u8]) -> io::Result<()> {
    let mut frame = vec![0; 12];
    let length = u32::try_from(payload.len()).expect("short");
    frame[0..4].copy_from_slice(&length.to_le_bytes());
    (frame[4], frame[5]) = (kind, END);
    frame[8..12].copy_from_slice(&id.to_le_bytes());
    frame.extend(payload);
    to.write_all(&frame).await
}

async fn receive(from: &mut UnixStream) -> io::Result<(u8, u32, Vec<u8>)> {
    let mut header = [0; 12];
    from.read_exact(&mut header).await?;
    let [a, b, c, d, kind, _, _, _, e, f, g, h] = header;
    let mut payload = vec![0; u32::from_le_bytes([a, b, c, d]) as usize];
    from.read_exact(&mut payload).await?;
    Ok((kind, u32::from_le_bytes([e, f, g, h]), payload))
}
