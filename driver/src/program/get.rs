//! `jetwake get`: reads messages of one replica.

use std::io::Write;

use clap::{Args, ValueEnum};
use jetwake::command::Message;
use jetwake::ids::{ByteCount, Sequence};
use jetwake_driver::client::{Client, ClientError};
use serde_json::json;

use super::access::AccessArguments;
use super::{Failure, block_on, tell};

/// Messages of one read.
const BATCH: usize = 1024;
/// Bytes of one read.
const BATCH_BYTES: ByteCount = ByteCount::new(1024 * 1024);

/// Read messages of a stream.
///
/// They come from the replica of the first node that can be reached, whether it leads or not. Deleted
/// messages are skipped. Fails if there is no message from FIRST on.
#[derive(Args)]
pub(super) struct GetArguments {
    /// The stream.
    stream: String,

    /// The sequence to begin with.
    #[arg(default_value_t = 1)]
    first: u64,

    /// How many messages at most; 0 for all there are.
    #[arg(long, short, default_value_t = 1)]
    count: u64,

    /// How to print a message.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    #[command(flatten)]
    access: AccessArguments,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Sequence, subject and payload, with odd bytes escaped: one line a message.
    Text,
    /// One JSON object a line: seq, time (nanoseconds since 1970), subject, header, payload; odd
    /// bytes escaped.
    Json,
    /// The payload alone, as it is, and a newline.
    Payload,
}

pub(super) fn run(arguments: GetArguments) -> Result<(), Failure> {
    let GetArguments { stream, first, count, format, access } = arguments;
    let (nodes, access) = access.load()?;
    block_on(async {
        let mut client = None;
        for node in &nodes {
            match Client::connect(node, &access).await {
                Ok(connected) => client = Some(connected),
                Err(error) => tell(&format!("warning: {error}")),
            }
            if client.is_some() {
                break;
            }
        }
        let mut client = client.ok_or_else(|| anyhow::anyhow!("no node could be reached"))?;
        let printed = print_all(&mut client, &stream, first, count, format).await?;
        if printed == 0 {
            let server = client.server();
            return Err(anyhow::anyhow!(
                "stream {stream:?} on {server} has no message from sequence {first} on"
            )
            .into());
        }
        Ok(())
    })
}

async fn print_all(
    client: &mut Client,
    stream: &str,
    first: u64,
    count: u64,
    format: Format,
) -> Result<u64, Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut left = if count == 0 { u64::MAX } else { count };
    let mut from = Some(Sequence::new(first));
    while let Some(first) = from
        && left > 0
    {
        let most = usize::try_from(left).map_or(BATCH, |left| left.min(BATCH));
        let (messages, next) =
            client.read(stream, first, most, BATCH_BYTES).await.map_err(|error| match error {
                ClientError::Refused(error) => {
                    anyhow::anyhow!("node {}: {error}", client.server())
                }
                error => error.into(),
            })?;
        for message in &messages {
            print(&mut out, message, format)?;
        }
        left = left.saturating_sub(messages.len() as u64);
        // An answer that leads nowhere must not be asked for again and again.
        from = next.filter(|next| *next > first);
    }
    out.flush()?;
    Ok(if count == 0 { u64::MAX - left } else { count - left })
}

fn print(out: &mut impl Write, message: &Message, format: Format) -> std::io::Result<()> {
    let Message { sequence, time, subject, header, payload } = message;
    match format {
        Format::Text => {
            writeln!(out, "{sequence} {} {}", text(subject), text(payload))
        }
        Format::Json => {
            let object = json!({
                "seq": sequence.get(),
                "time": time.as_nanos(),
                "subject": text(subject),
                "header": text(header),
                "payload": text(payload),
            });
            writeln!(out, "{object}")
        }
        Format::Payload => {
            out.write_all(payload)?;
            out.write_all(b"\n")
        }
    }
}

/// Text as it is; bytes that are none, and what would break a line, escaped.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}
