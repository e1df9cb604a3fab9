//! One exchange with an instance: a call sent, an answer read, all within the function's time limit.
//!
//! ```text
//!   call ──CALL──▶ guest ──RESULT──▶ Answer ──BODY…END──▶ the lease is given back
//!     └─ Pump ──BODY…END──▶                 └─ BUSY: given back at DONE
//!   dropped before END: CANCEL, a background task drains the rest until END
//! ```
//!
//! - [`exchange`]: the call in flight, and its end in every way
//! - `pump`: sends the rest of a long request meanwhile
//! - `answer_head`: the head of an answer, checked against what HTTP allows
//! - `answer`: the answer's body as the function writes it
//! - `clock`: the call's time limit, without the caller's delays

mod answer;
mod answer_head;
mod clock;
mod exchange;
mod pump;

pub(crate) use exchange::{CallError, call};
pub(crate) use pump::Rest;
