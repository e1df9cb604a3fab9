//! From requirements to a lock. If several functions ask the same within a while, one looks it up, and all get the same answer.

use super::Packages;
use super::failure::Failure;
use super::kept::Question;
use ol_packages::lock::{Lock, LockTarget};
use ol_packages::requirements::Requirements;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer is reused for others who ask the same.
const FRESH: Duration = Duration::from_secs(600);

/// How many answers are kept for others; beyond that, all that no task is waiting for are dropped.
const MOST: usize = 256;

/// Locked while the answer is being looked up.
type Answer = Arc<tokio::sync::Mutex<Option<(Instant, Arc<Lock>)>>>;

/// Answers, and those being looked up.
#[derive(Debug, Default)]
pub(super) struct Resolving(Mutex<HashMap<Question, Answer>>);

#[derive(serde::Deserialize)]
struct Resolved {
    lock: String,
    python: String,
    platform: String,
}

impl Resolving {
    fn seat(&self, question: &Question) -> Answer {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= MOST {
            // Drop the answers that no task is waiting for.
            answers.retain(|_, answer| Arc::strong_count(answer) > 1);
        }
        Arc::clone(answers.entry(question.clone()).or_default())
    }

    /// Forgets a useless answer: the next who asks looks it up again.
    pub(super) fn forget(&self, question: &Question) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.remove(question);
    }
}

/// The lock for `wanted`.
pub(super) async fn resolve(
    packages: &Arc<Packages>,
    question: &Question,
    wanted: &Requirements,
) -> Result<Arc<Lock>, Failure> {
    let seat = packages.resolving.seat(question);
    let mut answer = seat.lock().await;
    if let Some((since, lock)) = &*answer
        && since.elapsed() < FRESH
    {
        return Ok(Arc::clone(lock));
    }
    let lock = Arc::new(look_up(packages, wanted).await?);
    *answer = Some((Instant::now(), Arc::clone(&lock)));
    Ok(lock)
}

async fn look_up(packages: &Arc<Packages>, wanted: &Requirements) -> Result<Lock, Failure> {
    let doing = "finding out which packages are needed";
    let mut job = packages.online().await?;
    let order = serde_json::json!({ "requirements": wanted.render() });
    let text = job.order("/resolve", doing, order).await?;
    let nonsense = |what: &dyn std::fmt::Display| {
        Failure(format!(
            "{doing}: the installer's answer makes no sense: {what}\n"
        ))
    };
    let resolved: Resolved = serde_json::from_slice(&text).map_err(|e| nonsense(&e))?;
    let target = LockTarget::new(&resolved.python, &resolved.platform).map_err(|e| nonsense(&e))?;
    Lock::parse_compiled(resolved.lock.as_bytes(), target).map_err(|e| nonsense(&e))
}
