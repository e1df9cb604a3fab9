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
//! - `answer_head`: what an answer says of itself, held to what HTTP allows
//! - `answer`: its body as the function writes it
//! - `clock`: the function's time, without its caller's

mod answer;
mod answer_head;
mod clock;
mod exchange;
mod pump;

pub(crate) use exchange::{CallError, call};
pub(crate) use pump::Rest;
