//! A sandbox that starts: its creation, and what its guest says until it is bound or ready.

use crate::death::describe;
use crate::guest::channel::Conversation;
use crate::guest::frame::sections;
use crate::guest::{Channel, ChannelError, Frame, FrameKind};
use crate::instance::About;
use crate::invoke::InvokeError;
use crate::output::Allowance;
use crate::version::{Compiled, Version};
use bytes::BytesMut;
use ol_model::Limits;
use ol_sandbox::{CreateError, Created, Obituary, Pool, Running, SandboxSpec};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// How long a runtime may take to greet. It has run no tenant code by then, so this limit only catches a broken base image.
const GREETING: Duration = Duration::from_secs(30);

/// Creates a sandbox without a log, and the connection to its guest, which takes one call at a time.
pub(crate) async fn create_unlogged(
    pool: &dyn Pool,
    spec: SandboxSpec,
) -> Result<(Running, Channel), CreateError> {
    let Created {
        sandbox,
        guest,
        output,
        ..
    } = pool.create(spec).await?;
    tokio::spawn(listen(sandbox.id().0, output));
    Ok((sandbox, Channel::new(guest, 1)))
}

/// How fast the output of a sandbox without a log is read, in bytes per second and as a burst.
///
/// If the sandbox prints more, it waits on its pipe.
const UNLOGGED: u32 = 1 << 20;

/// Reads what a sandbox without a log prints, so that it doesn't block on its pipe for ever.
///
/// Packages may print while they are imported.
async fn listen(sandbox: u64, mut output: pipe::Receiver) {
    let mut text = BytesMut::with_capacity(16 << 10);
    let allowance = Allowance::new(UNLOGGED);
    while let Ok(read @ 1..) = output.read_buf(&mut text).await {
        tracing::debug!(
            "sandbox {sandbox} printed: {}",
            String::from_utf8_lossy(&text)
        );
        text.clear();
        let wait = allowance.spend(read);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// The first message of a guest.
#[derive(serde::Deserialize)]
pub(crate) struct Greeting {
    /// Which kind of compiled code the guest's Python accepts.
    pub(crate) magic: String,
}

impl Greeting {
    /// Parses `frame`, if it is a greeting.
    pub(crate) fn of(frame: &Frame) -> Option<Self> {
        let sound = frame.kind == FrameKind::Ready;
        serde_json::from_slice(&frame.payload)
            .ok()
            .filter(|_| sound)
    }
}

/// A guest that is being started.
pub(crate) struct Start<'a> {
    pub channel: &'a Channel,
    pub obituary: Obituary,
    pub limits: &'a Limits,
}

impl Start<'_> {
    /// Waits until the runtime has greeted; returns which kind of compiled code its Python accepts.
    pub(crate) async fn greeting(
        &self,
        about_itself: &mut Conversation,
    ) -> Result<String, InvokeError> {
        let ready = self
            .expect(about_itself, FrameKind::Ready, GREETING)
            .await?;
        let greeting = Greeting::of(&ready).ok_or_else(|| self.nonsense())?;
        Ok(greeting.magic)
    }

    /// Waits until the guest is bound to `version`, and keeps the code that it may have compiled.
    pub(crate) async fn bound(
        &self,
        about_itself: &mut Conversation,
        magic: String,
        version: &Version,
    ) -> Result<About, InvokeError> {
        let bound = self
            .expect(about_itself, FrameKind::Bound, self.limits.runtime)
            .await?;
        let (about, code) = sections(bound.payload).map_err(|_| self.nonsense())?;
        let about: About = serde_json::from_slice(&about).map_err(|_| self.nonsense())?;
        if bound.compiled {
            let compiled = Compiled { magic, code };
            // Another instance may have sent it first.
            let _ = version.compiled.set(compiled);
        }
        Ok(about)
    }

    async fn expect(
        &self,
        about_itself: &mut Conversation,
        kind: FrameKind,
        limit: Duration,
    ) -> Result<Frame, InvokeError> {
        match tokio::time::timeout(limit, self.channel.next(about_itself)).await {
            Ok(Ok(frame)) if frame.kind == kind => Ok(frame),
            Ok(Ok(frame)) if frame.kind == FrameKind::BindFailed => Err(InvokeError::CannotStart(
                String::from_utf8_lossy(&frame.payload).into_owned(),
            )),
            Ok(Ok(_)) => Err(self.nonsense()),
            Ok(Err(ChannelError::Closed)) => {
                let mut obituary = self.obituary.clone();
                let death = tokio::time::timeout(Duration::from_secs(1), obituary.wait())
                    .await
                    .ok()
                    .flatten();
                let reason = describe(death, self.limits);
                Err(InvokeError::CannotStart(format!(
                    "the function's process ended while it was starting: {reason}\n"
                )))
            }
            Ok(Err(error)) => {
                tracing::warn!("a guest could not be started: {error}");
                Err(self.nonsense())
            }
            Err(_elapsed) => Err(InvokeError::TimeLimit { limit }),
        }
    }

    fn nonsense(&self) -> InvokeError {
        InvokeError::CannotStart(
            "the function's process broke the protocol while it was starting\n".to_owned(),
        )
    }
}
