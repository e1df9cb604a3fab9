//! Backs an instance with a sandbox: made by the pool, greeted, bound to the function's code.

use super::Instances;
use crate::binding::Binding;
use crate::guest::Channel;
use crate::instance::Instance;
use crate::invoke::InvokeError;
use crate::output::Outlet;
use crate::phases::Origin;
use crate::starting::Start;
use crate::version::{FunctionKind, Version};
use crate::zygote::{Blank, Zygote};
use ol_model::kinds::StartKind;
use ol_model::steps;
use ol_sandbox::{Content, CreateError, Created, Network, Parent, Role, SandboxSpec};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long one request for memory stands in line before idle sandboxes are looked for again, and whether it is still wanted.
///
/// Thus a large request holds up the small ones behind it for no longer than this.
pub(crate) const TURN: Duration = Duration::from_millis(250);

/// Why an instance is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Demand {
    /// For calls, as long as they wait, or for the minimum of instances that a function is to have.
    Calls,
    /// For a trial, which finds out whether the version can be started. Memory is waited for no longer than `patience`.
    Trial { patience: Duration },
}

/// Makes an instance of `version`; `None` if it is no longer wanted by then.
pub(crate) async fn provision(
    instances: &Arc<Instances>,
    version: Arc<Version>,
    demand: Demand,
) -> Result<Option<Arc<Instance>>, InvokeError> {
    let source = version
        .source
        .clone()
        .map_err(|why| InvokeError::CannotStart(format!("{why}\n")))?;
    let begun = Instant::now();
    let Some((made, zygote)) = create(instances, &version, &source, demand).await? else {
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
    if !version.ours {
        steps::CREATE.record(create);
    }

    if !told {
        let binding = instances.binding(&version);
        binding.message(&source, &magic).send(&channel).await;
    }
    let about = start.bound(&mut about_itself, magic, &version).await?;
    output.bound(about.left);
    channel.close(about_itself);
    let first = version.kind.set(about.kind).is_ok();
    if first && concurrency > 1 && about.kind != FunctionKind::Asgi {
        tracing::warn!(
            "{}: concurrency {concurrency} has no effect: only ASGI apps serve several calls at once",
            instances.name
        );
    }
    let bind = begun.elapsed() - create;
    if !version.ours {
        steps::BIND.record(bind);
        kind.count();
    }
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

impl Instances {
    /// What tells a guest that it becomes one of these instances.
    fn binding<'a>(&'a self, version: &'a Version) -> Binding<'a> {
        Binding::of(&self.name, self.resources.settings.site_packages, version)
    }
}

/// Makes a sandbox for `version` as soon as there is memory for it.
///
/// Returns `None` if nobody waits any more, or after `queue_wait`; the queue itself reports the timeout to each caller.
async fn create(
    instances: &Arc<Instances>,
    version: &Version,
    source: &[u8],
    demand: Demand,
) -> Result<Option<(Made, Option<Arc<Zygote>>)>, InvokeError> {
    let (trial, patience) = match demand {
        Demand::Calls => (false, instances.resources.settings.queue_wait),
        Demand::Trial { patience } => (true, patience),
    };
    let begun = Instant::now();
    if !instances
        .resources
        .pool
        .abilities()
        .networks
        .contains(&version.network)
    {
        return Err(InvokeError::CannotStart(format!(
            "this worker's sandboxes have no network of the kind {:?}: name another in ol.yaml\n",
            version.network
        )));
    }
    // A forked sandbox can't leave its zygote's network namespace for the host's.
    let mut afresh = matches!(version.network, Network::Host | Network::Gate);
    loop {
        if !trial && !instances.wants_start(version) {
            instances.end_memory_shortage();
            return Ok(None);
        }
        if trial || instances.is_waited_for() {
            // A start that only stands by must not end another function's idle instance.
            instances.resources.make_room(version.limits.mem);
        }
        let content = Content {
            limits: version.limits.clone(),
            oom: version.config.oom,
            code: Some(version.code.clone()),
            packages: version.shown(),
            patience: TURN,
            network: version.network,
        };
        let zygote = instances.resources.zygotes.root().filter(|_| !afresh);
        if let Some(blank) = zygote
            .as_ref()
            .and_then(|_| instances.resources.blanks.take(version.network))
        {
            // If it fails, the blank is dropped, and the sandbox is made in another way.
            if instances
                .resources
                .pool
                .assign(&blank.sandbox, &content)
                .await
                .is_ok()
            {
                instances.end_memory_shortage();
                return Ok(Some((Made::Blank(Box::new(blank)), zygote)));
            }
        }
        let spec = SandboxSpec {
            parent: zygote.as_ref().map_or(Parent::Root, |z| z.as_parent()),
            role: Role::Leaf,
            content,
            // The zygote's Python is known, so there is no need to wait for the guest's greeting.
            opening: zygote.as_ref().map_or_else(Vec::new, |zygote| {
                instances
                    .binding(version)
                    .message(source, zygote.magic())
                    .opening()
            }),
        };
        let told = !spec.opening.is_empty();
        match instances.resources.pool.create(spec).await {
            Ok(created) => {
                instances.end_memory_shortage();
                if zygote.is_some() {
                    instances.resources.zygotes.praise();
                }
                return Ok(Some((Made::New { created, told }, zygote)));
            }
            Err(error @ CreateError::NoMemory { .. }) => {
                let error = error.after(patience);
                if trial && begun.elapsed() >= patience {
                    return Err(refused(&error));
                }
                instances.note_memory_shortage(error);
                if begun.elapsed() >= patience {
                    return Ok(None);
                }
            }
            Err(CreateError::Fork(why)) => {
                if let Some(zygote) = &zygote {
                    instances.resources.zygotes.suspect(zygote, &why);
                }
                afresh = true;
            }
            Err(error) => return Err(refused(&error)),
        }
    }
}

/// A sandbox that isn't bound to a version yet.
enum Made {
    New {
        created: Created,
        /// The guest was told which function it becomes when the sandbox was made.
        told: bool,
    },
    /// A blank, whose guest has greeted already.
    Blank(Box<Blank>),
}

pub(crate) fn refused(error: &CreateError) -> InvokeError {
    match error {
        CreateError::NoMemory { .. } => InvokeError::NoMemory(error.to_string()),
        CreateError::Mechanism(reason) | CreateError::Fork(reason) => {
            tracing::error!("a sandbox could not be made: {reason}");
            InvokeError::Internal("a sandbox could not be made")
        }
        CreateError::Gone => InvokeError::Ending,
    }
}
