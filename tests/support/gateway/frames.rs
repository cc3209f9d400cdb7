//! HTTP/2 frame by frame (RFC 9113), for what no client library would send. Heads are literals that use no table (RFC 7541
//! section 6.2.2), and the gateway is told to use none either.

use super::super::PATIENCE;
use super::super::World;
use super::secured;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 0x1;
/// Of SETTINGS and PING.
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;

pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// The setting for the windows of streams.
pub const INITIAL_WINDOW_SIZE: u16 = 4;
const HEADER_TABLE_SIZE: u16 = 1;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_OF_FRAME: usize = 9;
/// The longest payload that one need not ask for.
const PAYLOAD_MAX: usize = 16_384;

/// What became of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It was answered, and the answer ended.
    Answered(u16),
    /// Its stream was reset, with this code.
    Reset(u32),
    /// The connection ended before, with the code of the farewell if there was one.
    Gone(Option<u32>),
}

/// What came on one stream.
#[derive(Clone, Debug, Default)]
struct Heard {
    status: Option<u16>,
    body: Vec<u8>,
    is_over: bool,
    reset: Option<u32>,
}

/// A connection.
pub struct Frames {
    stream: TlsStream<TcpStream>,
    unread: Vec<u8>,
    heard: BTreeMap<u32, Heard>,
    pongs: usize,
    farewell: Option<u32>,
    is_closed: bool,
    authority: String,
}

impl Frames {
    /// Connects to the gateway of a world.
    pub async fn connect(world: &World) -> Self {
        Self::connect_with(world, &[]).await
    }

    /// The same with further settings.
    pub async fn connect_with(world: &World, settings: &[(u16, u32)]) -> Self {
        let mut frames = Self {
            stream: secured(world, b"h2").await,
            unread: Vec::new(),
            heard: BTreeMap::new(),
            pongs: 0,
            farewell: None,
            is_closed: false,
            authority: format!("localhost:{}", world.port),
        };
        let mut payload = Vec::new();
        for (name, value) in [(HEADER_TABLE_SIZE, 0)].iter().chain(settings) {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &payload));
        frames.write(&bytes).await.expect("the gateway accepts");
        frames
    }

    /// The fields of a request as it should be.
    pub fn request<'a>(
        &'a self,
        method: &'a str,
        path: &'a str,
        more: &[(&'a str, &'a str)],
    ) -> Vec<(&'a str, &'a str)> {
        let mut fields = vec![
            (":method", method),
            (":scheme", "https"),
            (":authority", self.authority.as_str()),
            (":path", path),
        ];
        fields.extend(more);
        fields
    }

    /// Where the gateway is, as clients name it.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The gateway takes no more.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Sends a frame; whether the gateway takes it shows later.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        drop(self.write(&frame(kind, flags, stream, payload)).await);
    }

    /// Sends a head, in as many frames as it takes.
    pub async fn head(&mut self, stream: u32, fields: &[(&str, &str)], ends: bool) {
        let bytes = heads(stream, fields, ends);
        drop(self.write(&bytes).await);
    }

    /// Waits for the end of a stream: what became of it.
    pub async fn fate(&mut self, stream: u32) -> Fate {
        self.until(|heard| {
            let of = heard.heard.get(&stream);
            of.is_some_and(|of| of.is_over || of.reset.is_some())
        })
        .await;
        let heard = self.heard.get(&stream).cloned().unwrap_or_default();
        match (heard.reset, heard.is_over, heard.status) {
            // An answer that ended is one, whether or not the rest of the request was wanted.
            (_, true, Some(status)) => Fate::Answered(status),
            (Some(code), ..) => Fate::Reset(code),
            _ => Fate::Gone(self.farewell),
        }
    }

    /// Waits for the head of the answer on a stream: its status.
    pub async fn status(&mut self, stream: u32) -> Option<u16> {
        let of = |heard: &Self| heard.heard.get(&stream).and_then(|of| of.status);
        self.until(|heard| of(heard).is_some()).await;
        of(self)
    }

    /// The bytes of the answer on a stream so far.
    pub fn body(&self, stream: u32) -> String {
        let body = self.heard.get(&stream).map(|of| of.body.as_slice());
        String::from_utf8_lossy(body.unwrap_or_default()).into_owned()
    }

    /// Waits for so many answers to PING, or the end of the connection: how many came.
    pub async fn pongs(&mut self, count: usize) -> usize {
        self.until(|heard| heard.pongs >= count).await;
        self.pongs
    }

    /// Waits for the end of the connection: the code of the farewell, if there was one.
    pub async fn end(&mut self) -> Option<u32> {
        self.until(|heard| heard.is_closed).await;
        self.farewell
    }

    /// Whether the gateway has said farewell or closed, as far as was read.
    pub fn is_over(&self) -> bool {
        self.is_closed || self.farewell.is_some()
    }

    /// Reads what has come, without waiting for more.
    pub async fn drain(&mut self) {
        while !self.is_closed {
            let fill = tokio::time::timeout(Duration::ZERO, self.fill());
            if fill.await.is_err() {
                return;
            }
            self.understand().await;
        }
    }

    /// Reads until something holds, or the connection ends.
    async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let reads = async {
            while !self.is_closed && !holds(self) {
                self.read().await;
            }
        };
        if tokio::time::timeout(PATIENCE, reads).await.is_err() {
            panic!("the gateway says no more: {:?}", self.heard);
        }
    }

    /// Reads what there is, at least something.
    async fn read(&mut self) {
        self.fill().await;
        self.understand().await;
    }

    async fn fill(&mut self) {
        let mut bytes = [0; PAYLOAD_MAX];
        let count = self.stream.read(&mut bytes).await.unwrap_or(0);
        self.is_closed = count == 0;
        self.unread.extend(&bytes[..count]);
    }

    async fn understand(&mut self) {
        while let Some((kind, flags, stream, payload)) = self.next() {
            self.hear(kind, flags, stream, &payload).await;
        }
    }

    fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let head = self.unread.get(..HEAD_OF_FRAME)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let end = HEAD_OF_FRAME + length;
        if self.unread.len() < end {
            return None;
        }
        let whole: Vec<u8> = self.unread.drain(..end).collect();
        let stream = number(&whole[5..HEAD_OF_FRAME]);
        Some((whole[3], whole[4], stream, whole[HEAD_OF_FRAME..].to_vec()))
    }

    async fn hear(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        match kind {
            SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]).await,
            PING if flags & ACK == 0 => self.send(PING, ACK, 0, payload).await,
            PING => self.pongs += 1,
            GOAWAY => self.farewell = Some(number(&payload[4..8])),
            HEADERS | DATA | RST_STREAM => {
                let heard = self.heard.entry(stream).or_default();
                match kind {
                    RST_STREAM => heard.reset = Some(number(payload)),
                    DATA => heard.body.extend(payload),
                    _ => heard.status = heard.status.or_else(|| status(payload)),
                }
                heard.is_over |= kind != RST_STREAM && flags & END_STREAM != 0;
            }
            _ => {}
        }
    }
}

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A head as frames.
pub fn heads(stream: u32, fields: &[(&str, &str)], ends: bool) -> Vec<u8> {
    let block = block(fields);
    let pieces: Vec<&[u8]> = block.chunks(PAYLOAD_MAX).collect();
    let mut bytes = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        let kind = if number == 0 { HEADERS } else { CONTINUATION };
        let mut flags = if number + 1 == pieces.len() {
            END_HEADERS
        } else {
            0
        };
        if number == 0 && ends {
            flags |= END_STREAM;
        }
        bytes.extend(frame(kind, flags, stream, piece));
    }
    bytes
}

/// Fields as literals without indexing, names and values as they are.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            integer(&mut bytes, 0, 7, text.len());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// An integer behind the first bits of a byte (RFC 7541 section 5.1).
pub fn integer(bytes: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let most = (1_usize << bits) - 1;
    if value < most {
        bytes.push(first | u8::try_from(value).expect("less than a byte"));
        return;
    }
    bytes.push(first | u8::try_from(most).expect("less than a byte"));
    let mut rest = value - most;
    while rest >= 128 {
        bytes.push(0x80 | u8::try_from(rest % 128).expect("less than a byte"));
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).expect("less than a byte"));
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

/// The status with which a block begins (RFC 9113 section 8.3.2). The gateway may have no table but the static one: a known
/// status is an index, any other a literal of three digits in Huffman's code.
fn status(block: &[u8]) -> Option<u16> {
    // The table is emptied first.
    let block = block.strip_prefix(&[0x20]).unwrap_or(block);
    let first = *block.first()?;
    if first & 0x80 != 0 {
        let known = [200, 204, 206, 304, 400, 404, 500];
        let index = usize::from(first & 0x7f).checked_sub(8)?;
        return known.get(index).copied();
    }
    let length = *block.get(1)?;
    let value = block.get(2..2 + usize::from(length & 0x7f))?;
    if length & 0x80 == 0 {
        return std::str::from_utf8(value).ok()?.parse().ok();
    }
    let bits: Vec<u8> = value
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    let value_of = |from: usize, count: usize| {
        let bits = bits.get(from..from + count)?;
        Some(
            bits.iter()
                .fold(0_u16, |value, bit| value << 1 | u16::from(*bit)),
        )
    };
    let (mut at, mut status) = (0, 0);
    for _ in 0..3 {
        // `0` to `2` are five bits, the others six.
        let digit = match value_of(at, 5)? {
            short @ 0..=2 => {
                at += 5;
                short
            }
            _ => {
                let long = value_of(at, 6)?;
                at += 6;
                long.checked_sub(22)
                    .filter(|digit| (3..=9).contains(digit))?
            }
        };
        status = status * 10 + digit;
    }
    Some(status)
}
