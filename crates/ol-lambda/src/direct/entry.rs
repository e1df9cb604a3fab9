//! One sandbox of sock mode: running, paused, or dead and not yet destroyed.

use super::{DirectError, PATIENCE};
use crate::backing::{Backing, State, Thaw};
use crate::death::describe;
use crate::guest::frame::{CHUNK, Outgoing, WINDOW, sections};
use crate::guest::{Channel, ChannelError, FrameKind};
use crate::instance::About;
use crate::instances::refused;
use crate::invoke::InvokeError;
use crate::version::FunctionKind;
use crate::version::Version;
use bytes::{Buf, Bytes, BytesMut};
use ol_model::{Limits, MiB, steps};
use ol_sandbox::{Parent, Pool, Role, Running};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The longest answer that is accepted, in bytes; it is kept in memory.
const LONGEST_ANSWER: usize = 64 << 20;

/// How much memory a paused sandbox keeps beyond what it uses.
const ROOM: MiB = MiB(1);

/// How long a freeze may take to become effective.
const FREEZE: Duration = Duration::from_secs(1);

/// What a leaf was made with.
pub(super) struct Bound {
    /// The directory of the code is removed with this.
    pub _version: Version,
    /// What the guest reported; `None` if the code has no entry file.
    pub about: Option<About>,
}

pub(super) struct Entry {
    role: Role,
    limits: Limits,
    channel: Channel,
    bound: Option<Bound>,
    backing: Backing,
    /// A description for people.
    process: String,
    /// Its memory while it runs; less than its limit for a zygote.
    had: MiB,
    /// Held by the request that pauses or unpauses the sandbox, even if that takes long.
    changing: Mutex<()>,
    /// Held by the one call that runs.
    turn: Mutex<()>,
}

impl Entry {
    pub(super) fn new(
        role: Role,
        sandbox: Running,
        channel: Channel,
        limits: Limits,
        bound: Option<Bound>,
    ) -> Self {
        Self {
            role,
            limits,
            channel,
            bound,
            process: sandbox.process(),
            had: sandbox.allotment().size(),
            backing: Backing::new(sandbox),
            changing: Mutex::default(),
            turn: Mutex::default(),
        }
    }

    /// The sandbox as the parent of another.
    pub(super) fn as_parent(&self) -> Result<Parent, DirectError> {
        if self.role == Role::Leaf {
            return Err(DirectError::bad(
                "a leaf can't be a parent: name a sandbox that was made with leaf false",
            ));
        }
        self.backing.look(|state| match state {
            State::Running(running) => Ok(running.as_parent()),
            State::Paused(_) => Err(DirectError::Conflict(
                "the parent is paused and forks nothing: POST /unpause/ID first".to_owned(),
            )),
            State::Gone => Err(gone()),
        })
    }

    /// Freezes the sandbox, then lowers its memory if the pool `downsizing` is given. Must not be dropped half way.
    pub(super) async fn pause(&self, downsizing: Option<&dyn Pool>) -> Result<(), DirectError> {
        self.alive()?;
        let _alone = self.changing.lock().await;
        if self.backing.is_paused() {
            return Ok(());
        }
        let begun = Instant::now();
        if !self.backing.pause_if(|| true).map_err(|e| broken(&e))? {
            return Err(gone());
        }
        match tokio::time::timeout(FREEZE, self.backing.until_frozen()).await {
            Ok(Ok(true)) => steps::PAUSE.record(begun.elapsed()),
            Ok(Ok(false)) => return Err(gone()),
            Ok(Err(error)) => return Err(broken(&error)),
            Err(_elapsed) => {
                return Err(DirectError::Conflict(
                    "its processes can't be stopped now: they wait in the kernel; it freezes when they return".to_owned(),
                ));
            }
        }
        if let (Some(pool), Some(allotment)) = (downsizing, self.backing.allotment()) {
            pool.downsize(&allotment, ROOM).await;
        }
        Ok(())
    }

    /// Gets the memory back, then thaws; without memory the sandbox stays paused.
    pub(super) async fn unpause(&self, pool: &dyn Pool) -> Result<(), DirectError> {
        self.alive()?;
        let _alone = self.changing.lock().await;
        if let Some(allotment) = self
            .backing
            .allotment()
            .filter(|_| self.backing.is_paused())
        {
            let regained = pool.regain(&allotment, self.had, PATIENCE).await;
            regained.map_err(|error| refused(&error))?;
        }
        match self.backing.thaw().map_err(|error| broken(&error))? {
            Thaw::Needless => Ok(()),
            Thaw::Done(took) => {
                steps::UNPAUSE.record(took);
                Ok(())
            }
            Thaw::Gone => Err(gone()),
        }
    }

    /// Has the sandbox destroyed, whatever it is doing.
    pub(super) fn end(&self) {
        self.backing.give_up();
    }

    fn alive(&self) -> Result<(), DirectError> {
        match self.backing.death() {
            None => Ok(()),
            Some(death) => Err(DirectError::Conflict(format!(
                "the sandbox is dead: {}; POST /destroy/ID frees what it held",
                describe(Some(death), &self.limits)
            ))),
        }
    }

    /// Calls the sandbox's `f(event)`. Must not be dropped half way.
    pub(super) async fn run(&self, event: &Bytes) -> Result<Bytes, DirectError> {
        let about = self.bound.as_ref().and_then(|bound| bound.about);
        if about.is_none_or(|about| about.kind != FunctionKind::F) {
            return Err(DirectError::Conflict(
                "it has no f(event) to call: create a leaf whose code has an f.py with one"
                    .to_owned(),
            ));
        }
        if event.len() > WINDOW {
            let limit_mb = u32::try_from(WINDOW >> 20).unwrap_or(u32::MAX);
            return Err(InvokeError::TooLarge { limit_mb }.into());
        }
        let _turn = self.turn.lock().await;
        self.alive()?;
        let runs = |state: &State| matches!(state, State::Running(_));
        if !self.backing.look(runs) {
            return Err(DirectError::Conflict(
                "it is paused: POST /unpause/ID first".to_owned(),
            ));
        }
        let begun = Instant::now();
        let limit = self.limits.runtime;
        let answered = match tokio::time::timeout(limit, self.exchange(event)).await {
            Err(_elapsed) => Err(InvokeError::TimeLimit { limit }),
            Ok(Err(Broken::Fault(error))) => return Err(error.into()),
            Ok(Err(Broken::Channel(ChannelError::Closed))) => {
                let reason = describe(self.backing.how_it_died().await, &self.limits);
                Err(InvokeError::Died { reason })
            }
            Ok(Err(Broken::Channel(error))) => Err(InvokeError::Died {
                reason: error.to_string(),
            }),
            Ok(Ok(answer)) => Ok(answer),
        };
        match answered {
            Ok(answer) => {
                steps::CALL.record(begun.elapsed());
                Ok(answer)
            }
            Err(error) => {
                // What is still under way on the connection would be taken for the next answer.
                self.end();
                Err(error.into())
            }
        }
    }

    async fn exchange(&self, event: &Bytes) -> Result<Bytes, Broken> {
        let mut conversation = self.channel.open();
        let id = conversation.id;
        let (first, rest) = event.split_at(event.len().min(CHUNK));
        let nothing = 0_u32.to_le_bytes();
        let call = Outgoing::new(FrameKind::Call, id).with_payload([&nothing, first]);
        self.channel.send(call.followed(!rest.is_empty())).await?;
        let mut left = rest.chunks(CHUNK).peekable();
        while let Some(chunk) = left.next() {
            let body = Outgoing::new(FrameKind::Body, id).with_payload([chunk]);
            let more = left.peek().is_some();
            self.channel.send(body.followed(more)).await?;
        }
        let mut answer = BytesMut::new();
        loop {
            let frame = self.channel.next(&mut conversation).await?;
            let mut payload = frame.payload;
            match frame.kind {
                FrameKind::Result => {
                    let (_, body) = sections(payload).map_err(ChannelError::from)?;
                    answer.extend_from_slice(&body);
                }
                FrameKind::Body => answer.extend_from_slice(&payload),
                FrameKind::Fault if payload.len() >= 2 => {
                    self.channel.close(conversation);
                    let status = payload.get_u16_le();
                    let text = String::from_utf8_lossy(&payload).into_owned();
                    return Err(Broken::Fault(if status == 400 {
                        InvokeError::BadRequest(text)
                    } else {
                        InvokeError::Raised(text)
                    }));
                }
                _ => return Err(ChannelError::Stray(id).into()),
            }
            if answer.len() > LONGEST_ANSWER {
                return Err(ChannelError::Flooded(id).into());
            }
            if frame.end {
                self.channel.close(conversation);
                return Ok(answer.freeze());
            }
        }
    }

    pub(super) fn describe(&self) -> String {
        let role = match self.role {
            Role::Leaf => "leaf",
            Role::Zygote { .. } => "zygote",
        };
        let state = match self.backing.death() {
            Some(death) => format!("dead, {death}"),
            None => self.backing.look(|state| match state {
                State::Running(_) => "running".to_owned(),
                State::Paused(_) => "paused".to_owned(),
                State::Gone => "ending".to_owned(),
            }),
        };
        format!("{role}, {state}, {}", self.process)
    }
}

/// Why there is no answer.
enum Broken {
    /// The function's own words; the sandbox is good for another call.
    Fault(InvokeError),
    Channel(ChannelError),
}

impl From<ChannelError> for Broken {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}

fn gone() -> DirectError {
    DirectError::Conflict("the sandbox was ended: POST /create makes another".to_owned())
}

fn broken(error: &std::io::Error) -> DirectError {
    tracing::error!("a sandbox can't be frozen or thawed: {error}");
    InvokeError::Internal("a sandbox can't be frozen or thawed").into()
}
