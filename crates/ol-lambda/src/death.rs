//! How a sandbox died, in words.

use ol_model::Limits;
use ol_sandbox::Death;

/// Describes a death for the caller.
pub(crate) fn describe(death: Option<Death>, limits: &Limits) -> String {
    match death {
        None => "it closed its connection".to_owned(),
        Some(death) if death.out_of_memory() => {
            format!(
                "{death} (limits.mem_mb is {}; files in /tmp count)",
                limits.mem.0
            )
        }
        Some(death) => death.to_string(),
    }
}
