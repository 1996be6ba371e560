//! `jetwake decode`: what captured bytes say.

use std::io::{BufWriter, IsTerminal, Write, stdin, stdout};

use jetwake_driver::decode::{DecodeArguments, DecodeError, run as decode};

use super::Failure;

pub(super) fn run(arguments: &DecodeArguments) -> Result<(), Failure> {
    let out = stdout();
    let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let mut out = BufWriter::new(out.lock());
    let done = decode(arguments, stdin().lock(), &mut out, colours);
    // What was said before a failure is worth having.
    let flushed = out.flush();
    match done {
        Ok(()) => Ok(flushed?),
        Err(DecodeError::Usage(why)) => Err(Failure::Usage(why)),
        Err(DecodeError::Io(error)) => Err(error.into()),
        Err(error) => Err(error.into()),
    }
}
