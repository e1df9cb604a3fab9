//! The limits of a sandbox, and the only place where they are decided from what a function asks for and what the worker grants.
//!
//! Pure arithmetic, so that the rule "never above `max_limits`" can be property-tested.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{CpuPercent, MiB};

/// Below this many MiB, `limits.mem_mb` draws a warning.
///
/// A Python without imports starts in 5 MiB if the interpreter's files are in the page cache already. If they are not, the first
/// sandbox to read them is charged for them too, which is as much again. Below this bound the same function may therefore start on
/// one day and fail on the next.
pub const LEAST_MEM_MB: u32 = 16;

/// The limits of one sandbox, all of them decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Processes and threads alive at once.
    pub procs: u32,
    /// Memory, page cache and tmpfs included.
    pub mem: MiB,
    /// Processor time; 100 % is one core.
    pub cpu: CpuPercent,
    /// The kernel's inclination to swap this sandbox out, 0 to 200. Only the operator sets it.
    pub swappiness: u8,
    /// How long one invocation may run: handler import and code, not queue or preparation.
    pub runtime: Duration,
    /// Size of `/tmp`, charged to `mem` as it fills.
    pub scratch: MiB,
}

/// What `limits:` in an `ol.yaml` asks for. A key left out, or zero, inherits the worker's
/// default: zero is how the original spells "not set".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, expecting = "a mapping such as {mem_mb: 128}")]
pub struct LimitsRequest {
    /// Processes and threads.
    pub procs: Option<u32>,
    /// Memory in MiB.
    pub mem_mb: Option<u32>,
    /// Processor time in percent of one core.
    pub cpu_percent: Option<u32>,
    /// Seconds one invocation may run.
    pub runtime_sec: Option<u32>,
    /// Size of `/tmp` in MiB.
    pub scratch_mb: Option<u32>,
}

/// The most an `ol.yaml` may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxLimits {
    /// Ceiling of [`Limits::procs`].
    pub procs: u32,
    /// Ceiling of [`Limits::mem`].
    pub mem: MiB,
    /// Ceiling of [`Limits::cpu`].
    pub cpu: CpuPercent,
    /// Ceiling of [`Limits::runtime`].
    pub runtime: Duration,
    /// Ceiling of [`Limits::scratch`].
    pub scratch: MiB,
}

/// A function asked for more than the worker grants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "ol.yaml asks for limits.{key} {asked}, but this worker allows at most {allowed}; \
     ask for less, or raise {config_key} in config.json"
)]
pub struct LimitError {
    /// The key under `limits:` in `ol.yaml`.
    pub key: &'static str,
    /// What it says there.
    pub asked: u32,
    /// The most it may say, in the same unit.
    pub allowed: u32,
    /// The key in `config.json` that would allow more.
    pub config_key: &'static str,
}

impl Limits {
    /// Grants `ask` over `defaults`.
    ///
    /// The result is within `max` in every dimension. A default above the maximum is lowered to it, since the function's author did
    /// nothing wrong.
    ///
    /// # Errors
    /// [`LimitError`] for the first key that asks for more than `max`. It is refused and not lowered, since a function that needs the
    /// memory would fail later, and less clearly.
    pub fn resolve(
        defaults: &Limits,
        ask: &LimitsRequest,
        max: &MaxLimits,
    ) -> Result<Limits, LimitError> {
        let procs = Dimension("procs", "max_limits.procs");
        let mem = Dimension("mem_mb", "max_limits.mem_mb");
        let cpu = Dimension("cpu_percent", "max_limits.cpu_percent");
        let runtime = Dimension("runtime_sec", "max_limits.runtime_sec");
        let scratch = Dimension("scratch_mb", "max_limits.scratch_mb");
        Ok(Limits {
            procs: procs.pick(defaults.procs, ask.procs, max.procs)?,
            mem: MiB(mem.pick(defaults.mem.0, ask.mem_mb, max.mem.0)?),
            cpu: CpuPercent(cpu.pick(defaults.cpu.0, ask.cpu_percent, max.cpu.0)?),
            swappiness: defaults.swappiness,
            // An inherited duration is not converted to seconds, since it may have a fraction of one.
            runtime: match ask.runtime_sec.filter(|asked| *asked != 0) {
                None => defaults.runtime.min(max.runtime),
                asked => {
                    let most = u32::try_from(max.runtime.as_secs()).unwrap_or(u32::MAX);
                    Duration::from_secs(runtime.pick(most, asked, most)?.into())
                }
            },
            scratch: MiB(scratch.pick(defaults.scratch.0, ask.scratch_mb, max.scratch.0)?),
        })
    }
}

/// The names of one limit: its key in `ol.yaml`, and the key in `config.json` that caps it.
struct Dimension(&'static str, &'static str);

impl Dimension {
    fn pick(&self, default: u32, ask: Option<u32>, max: u32) -> Result<u32, LimitError> {
        match ask {
            None | Some(0) => Ok(default.min(max)),
            Some(asked) if asked <= max => Ok(asked),
            Some(asked) => Err(LimitError {
                key: self.0,
                asked,
                allowed: max,
                config_key: self.1,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(n: u32) -> Limits {
        Limits {
            procs: n,
            mem: MiB(n),
            cpu: CpuPercent(n),
            swappiness: 7,
            runtime: Duration::from_secs(n.into()),
            scratch: MiB(n),
        }
    }

    fn max(n: u32) -> MaxLimits {
        MaxLimits {
            procs: n,
            mem: MiB(n),
            cpu: CpuPercent(n),
            runtime: Duration::from_secs(n.into()),
            scratch: MiB(n),
        }
    }

    #[test]
    fn nothing_asked_is_the_default_and_so_is_zero() {
        let zero = LimitsRequest {
            procs: Some(0),
            mem_mb: Some(0),
            cpu_percent: Some(0),
            runtime_sec: Some(0),
            scratch_mb: Some(0),
        };
        for ask in [LimitsRequest::default(), zero] {
            assert_eq!(
                Limits::resolve(&limits(10), &ask, &max(100)),
                Ok(limits(10))
            );
        }
    }

    #[test]
    fn asking_too_much_names_the_key_to_raise() {
        let ask = LimitsRequest {
            mem_mb: Some(4096),
            ..LimitsRequest::default()
        };
        let error = Limits::resolve(&limits(10), &ask, &max(1024)).expect_err("4096 is above 1024");
        assert_eq!(
            error.to_string(),
            "ol.yaml asks for limits.mem_mb 4096, but this worker allows at most 1024; \
             ask for less, or raise max_limits.mem_mb in config.json"
        );
    }

    #[test]
    fn a_fraction_of_a_second_is_inherited_whole() {
        let mut defaults = limits(10);
        defaults.runtime = Duration::from_millis(1_500);
        let resolved = Limits::resolve(&defaults, &LimitsRequest::default(), &max(100));
        assert_eq!(
            resolved.map(|l| l.runtime),
            Ok(Duration::from_millis(1_500))
        );
    }

    prop_compose! {
        fn any_request()(
            procs in any::<Option<u32>>(), mem_mb in any::<Option<u32>>(),
            cpu_percent in any::<Option<u32>>(), runtime_sec in any::<Option<u32>>(),
            scratch_mb in any::<Option<u32>>(),
        ) -> LimitsRequest {
            LimitsRequest { procs, mem_mb, cpu_percent, runtime_sec, scratch_mb }
        }
    }

    proptest! {
        #[test]
        fn never_above_the_maximum(ask in any_request(), default: u32, top: u32) {
            let (defaults, most) = (limits(default), max(top));
            if let Ok(got) = Limits::resolve(&defaults, &ask, &most) {
                prop_assert!(got.procs <= most.procs);
                prop_assert!(got.mem <= most.mem);
                prop_assert!(got.cpu <= most.cpu);
                prop_assert!(got.runtime <= most.runtime);
                prop_assert!(got.scratch <= most.scratch);
                prop_assert_eq!(got.swappiness, defaults.swappiness);
            } else {
                let asked = [ask.procs, ask.mem_mb, ask.cpu_percent, ask.runtime_sec, ask.scratch_mb];
                prop_assert!(asked.into_iter().flatten().any(|n| n > top));
            }
        }
    }
}
