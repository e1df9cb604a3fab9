//! Backing an instance with a sandbox: made by the pool, greeted, bound to the function's code.

use crate::binding::Binding;
use crate::call::describe;
use crate::function::{Instances, Version};
use crate::guest::channel::Conversation;
use crate::guest::frame::sections;
use crate::guest::{Channel, ChannelError, Frame, Kind};
use crate::instance::{About, FunctionKind, Instance};
use crate::invoke::InvokeError;
use crate::output::Outlet;
use crate::phases::Origin;
use crate::zygote::{Blank, Zygote};
use ol_model::kinds::StartKind;
use ol_model::{Limits, steps};
use ol_sandbox::{Content, CreateError, Created, Network, Obituary, Parent, Role, SandboxSpec};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a runtime may take until it greets. It runs no tenant code by then, so this only bounds a broken base.
const GREETING: Duration = Duration::from_secs(30);

#[derive(serde::Deserialize)]
pub(crate) struct Greeting {
    /// Which compiled code its Python takes.
    pub(crate) magic: String,
}

/// How long one request for memory stands in line. Then idle sandboxes are looked for again, and whether it is still wanted:
/// a large request so holds up the small ones behind it for no longer than this.
pub(crate) const TURN: Duration = Duration::from_millis(250);

/// Makes an instance of `version`; `None` if by now nobody waits for it.
pub(crate) async fn provision(
    instances: &Arc<Instances>,
    version: Arc<Version>,
) -> Result<Option<Arc<Instance>>, InvokeError> {
    let source = version
        .source
        .clone()
        .map_err(|why| InvokeError::CannotStart(format!("{why}\n")))?;
    let begun = Instant::now();
    let Some((made, zygote)) = create(instances, &version, &source).await? else {
        return Ok(None);
    };
    let lease = begun.elapsed();
    let concurrency = version.config.concurrency;
    let told = matches!(made, Made::New { told: true, .. });
    let (kind, sandbox, output, channel, gate, magic) = match made {
        Made::Blank(blank) => {
            let channel = blank.channel.for_calls(concurrency);
            (
                StartKind::Blank,
                blank.sandbox,
                blank.output,
                channel,
                None,
                Some(blank.zygote.magic().to_owned()),
            )
        }
        Made::New { created, .. } => {
            let channel = Channel::new(created.guest, concurrency);
            let kind = zygote.map_or(StartKind::Fresh, |_| StartKind::Fork);
            let Created {
                sandbox,
                output,
                gate,
                ..
            } = created;
            (kind, sandbox, output, channel, gate, None)
        }
    };
    let output = Outlet::start(Arc::clone(&instances.log), sandbox.id().0, output);
    let mut about_itself = channel.about_itself();
    let start = Start {
        channel: &channel,
        obituary: sandbox.obituary(),
        limits: &version.limits,
    };
    let magic = match magic {
        Some(magic) => magic,
        None => start.greeting(&mut about_itself).await?,
    };
    let create = begun.elapsed();
    steps::CREATE.record(create);

    if !told {
        let binding = Binding::of(instances, &version);
        binding.message(&source, &magic).send(&channel).await;
    }
    let about = start.bound(&mut about_itself, magic, &version).await?;
    channel.close(about_itself);
    let first = version.kind.set(about.kind).is_ok();
    if first && concurrency > 1 && about.kind != FunctionKind::Asgi {
        tracing::warn!(
            "{}: concurrency {concurrency} has no effect: only ASGI apps serve several calls at once",
            instances.name
        );
    }
    let bind = begun.elapsed() - create;
    steps::BIND.record(bind);
    let origin = Origin {
        kind,
        begun,
        create,
        lease: Some(lease),
        fork: None,
        bind,
    };
    let instance = Instance::new(version, channel, sandbox, about, output, gate, origin);
    Ok(Some(Arc::new(instance)))
}

/// A sandbox for `version`, as soon as there is memory; `None` if by then nobody waits for it, or after so long that whoever does
/// came later: each who waits is told in his own time that there was none.
async fn create(
    instances: &Arc<Instances>,
    version: &Version,
    source: &[u8],
) -> Result<Option<(Made, Option<Arc<Zygote>>)>, InvokeError> {
    let patience = instances.shared.settings.queue_wait;
    let begun = Instant::now();
    // What is forked can't leave its zygote's network namespace for the host's.
    let mut afresh = matches!(version.network, Network::Host | Network::Gate);
    loop {
        if !instances.wants_start(version) {
            instances.short_of_memory(None);
            return Ok(None);
        }
        if instances.is_waited_for() {
            // Nobody's idle instance goes for one that only stands by.
            instances.shared.make_room(version.limits.mem);
        }
        let content = Content {
            limits: version.limits.clone(),
            oom: version.config.oom,
            code: Some(version.code),
            patience: TURN,
            network: version.network,
        };
        let zygote = instances.shared.zygotes.root().filter(|_| !afresh);
        if let Some(blank) = zygote
            .as_ref()
            .and_then(|_| instances.shared.blanks.take(version.network))
        {
            // One that fails is let go of, and the start made in another way.
            if instances
                .shared
                .pool
                .assign(&blank.sandbox, &content)
                .await
                .is_ok()
            {
                instances.short_of_memory(None);
                return Ok(Some((Made::Blank(Box::new(blank)), zygote)));
            }
        }
        let spec = SandboxSpec {
            parent: zygote.as_ref().map_or(Parent::Root, |z| z.as_parent()),
            role: Role::Leaf,
            content,
            // Its Python is known, so it need not be asked first.
            opening: zygote.as_ref().map_or_else(Vec::new, |zygote| {
                Binding::of(instances, version)
                    .message(source, zygote.magic())
                    .opening()
            }),
        };
        let told = !spec.opening.is_empty();
        match instances.shared.pool.create(spec).await {
            Ok(created) => {
                instances.short_of_memory(None);
                if zygote.is_some() {
                    instances.shared.zygotes.praise();
                }
                return Ok(Some((Made::New { created, told }, zygote)));
            }
            Err(CreateError::NoMemory {
                asked_mb, pool_mb, ..
            }) => {
                let waited = patience;
                let error = CreateError::NoMemory {
                    asked_mb,
                    pool_mb,
                    waited,
                };
                instances.short_of_memory(Some(error.to_string()));
                if begun.elapsed() >= patience {
                    return Ok(None);
                }
            }
            Err(CreateError::Fork(why)) => {
                if let Some(zygote) = &zygote {
                    instances.shared.zygotes.suspect(zygote, &why);
                }
                afresh = true;
            }
            Err(error) => return Err(refused(&error)),
        }
    }
}

/// A sandbox that is bound to nothing yet.
enum Made {
    New {
        created: Created,
        /// It was told what to be when it was made.
        told: bool,
    },
    /// It has greeted already.
    Blank(Box<Blank>),
}

/// A guest that is being started.
pub(crate) struct Start<'a> {
    pub channel: &'a Channel,
    pub obituary: Obituary,
    pub limits: &'a Limits,
}

impl Start<'_> {
    /// Waits until its runtime is there; says which compiled code its Python takes.
    pub(crate) async fn greeting(
        &self,
        about_itself: &mut Conversation,
    ) -> Result<String, InvokeError> {
        let ready = self.expect(about_itself, Kind::Ready, GREETING).await?;
        let greeting: Greeting =
            serde_json::from_slice(&ready.payload).map_err(|_| self.nonsense())?;
        Ok(greeting.magic)
    }

    /// Waits until it is bound to `version`, and keeps the code that it may have compiled.
    pub(crate) async fn bound(
        &self,
        about_itself: &mut Conversation,
        magic: String,
        version: &Version,
    ) -> Result<About, InvokeError> {
        let bound = self
            .expect(about_itself, Kind::Bound, self.limits.runtime)
            .await?;
        let (about, code) = sections(bound.payload).map_err(|_| self.nonsense())?;
        let about: About = serde_json::from_slice(&about).map_err(|_| self.nonsense())?;
        if bound.compiled {
            let compiled = crate::function::Compiled { magic, code };
            // Another instance may have brought it first.
            let _ = version.compiled.set(compiled);
        }
        Ok(about)
    }

    async fn expect(
        &self,
        about_itself: &mut Conversation,
        kind: Kind,
        limit: Duration,
    ) -> Result<Frame, InvokeError> {
        match tokio::time::timeout(limit, self.channel.next(about_itself)).await {
            Ok(Ok(frame)) if frame.kind == kind => Ok(frame),
            Ok(Ok(frame)) if frame.kind == Kind::BindFailed => Err(InvokeError::CannotStart(
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

pub(crate) fn refused(error: &CreateError) -> InvokeError {
    match error {
        CreateError::NoMemory { .. } => InvokeError::NoMemory(error.to_string()),
        CreateError::Mechanism(reason) => {
            tracing::error!("a sandbox could not be made: {reason}");
            InvokeError::Internal("a sandbox could not be made")
        }
        CreateError::WardenGone | CreateError::Fork(_) => {
            InvokeError::Internal("no sandbox can be made")
        }
    }
}
