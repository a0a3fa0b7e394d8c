//! What the lab's links bring without a swarm: a plain HTTPS download over the WAN, a plain TCP stream over the LAN. Bounds and
//! copies are counted in these, so that headers and the machine's own limits are not held against the swarm.
//!
//! Not here: the swarm's own figures; see [`super::outcome`].

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::fleet::Fleet;
use super::image::Image;
use super::network::Network;
use super::process::{Process, ask, command_in};
use super::scenario::Settings;
use super::trial::Programs;

/// The stream over the LAN runs this long at the rate of the link.
const LAN_TIME: Duration = Duration::from_secs(2);
const BLAST_PORT: u16 = 7000;
/// The seed's figure of bytes of blobs that it sent.
const BLOBS_FIGURE: &str = "hedgerow_seed_blob_bytes_total";
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long the connection between two devices may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// What links bring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direct {
    /// Of a plain HTTPS download of the image, from its first byte to its last.
    pub(super) seconds: f64,
    /// Bytes that it moved through the site's interface.
    pub(super) wan_bytes: u64,
    /// Its goodput, in bytes per second.
    pub(super) wan_rate: f64,
    /// The goodput between two devices, in bytes per second.
    pub(super) lan_rate: f64,
}

/// Measures the first site's links, while no device runs.
pub(super) fn measure(fleet: &Fleet<'_>, programs: &Programs, network: &Network, settings: &Settings, image: &Image) -> Result<Direct> {
    let lan_rate = lan_rate(programs, network, settings)?;
    let before = network.wan_received(0)?;
    let mut curl = fleet.curl(&network.device(0, settings.devices - 1));
    curl.args(["--write-out", "%{time_starttransfer} %{time_total}\n"]);
    for blob in image.content() {
        curl.args(["--output", "/dev/null", &fleet.url_of(image, blob)]);
    }
    let seconds = transfer_seconds(&ask(&mut curl)?)?;
    let wan_bytes = network.wan_received(0)? - before;
    Ok(Direct { seconds, wan_bytes, wan_rate: super::outcome::float(image.bytes()) / seconds, lan_rate })
}

/// From the first byte of the first transfer to the end of the last, in seconds; they follow each other.
fn transfer_seconds(text: &str) -> Result<f64> {
    let mut seconds = 0.0;
    for (number, line) in text.lines().enumerate() {
        let (first_byte, total) = line.split_once(' ').context("curl wrote no times")?;
        let (first_byte, total): (f64, f64) = (first_byte.parse()?, total.parse()?);
        seconds += if number == 0 { total - first_byte } else { total };
    }
    if seconds <= 0.0 {
        bail!("curl says that the download took no time");
    }
    Ok(seconds)
}

/// The goodput between two devices with the full rate; with a single device, what its link is set to.
fn lan_rate(programs: &Programs, network: &Network, settings: &Settings) -> Result<f64> {
    let nominal = super::outcome::float(settings.lan_mbit * 1_000_000 / 8);
    if settings.devices < settings.slow + 2 {
        return Ok(nominal);
    }
    let (from, to) = (settings.devices - 2, settings.devices - 1);
    let bytes = settings.lan_mbit * 1_000_000 / 8 * LAN_TIME.as_secs();
    let address = format!("{}:{BLAST_PORT}", Network::device_address(0, from));
    let folder = tempfile::tempdir()?;
    let mut serve = command_in(&network.device(0, from), &programs.tools);
    let mut server =
        Process::start("blast", folder.path(), serve.args(["lab", "blast", "--serve", "--bytes", &bytes.to_string(), &address]))?;
    server.first_line()?;
    let mut fetch = command_in(&network.device(0, to), &programs.tools);
    let text = ask(fetch.args(["lab", "blast", "--bytes", &bytes.to_string(), &address]))?;
    Ok(super::outcome::float(bytes) / text.trim().parse::<f64>().context("the stream over the LAN has no time")?)
}

/// A plain stream of bytes.
#[derive(clap::Args)]
pub(crate) struct Blast {
    /// Send, to the first that connects; else connect and count
    #[arg(long)]
    serve: bool,
    /// How many
    #[arg(long)]
    bytes: u64,
    /// Where
    address: SocketAddr,
}

/// Sends bytes, or receives them and prints how many seconds that took from the first.
pub(super) fn blast(args: &Blast) -> Result<()> {
    let mut block = vec![0x5a; 64 << 10];
    if args.serve {
        let listener = TcpListener::bind(args.address).with_context(|| format!("taking {}", args.address))?;
        println!("ready");
        let (mut stream, _) = listener.accept()?;
        let mut left = args.bytes;
        while left > 0 {
            let some = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
            stream.write_all(&block[..some])?;
            left -= some as u64;
        }
        return Ok(());
    }
    let mut stream = TcpStream::connect_timeout(&args.address, CONNECT_TIME)?;
    let (mut received, mut started) = (0, None);
    while received < args.bytes {
        match stream.read(&mut block)? {
            0 => bail!("the stream ended after {received} bytes"),
            some => received += some as u64,
        }
        started.get_or_insert_with(Instant::now);
    }
    println!("{}", started.context("nothing was to come")?.elapsed().as_secs_f64());
    Ok(())
}

/// Prints `ready`, and the time in seconds since 1970 when the seed has handed out bytes of blobs; the sample before it, so that
/// what is measured from it is never too short.
pub(super) fn await_first_byte(metrics: SocketAddr) -> Result<()> {
    let before = blob_bytes(metrics)?;
    let mut quiet = now();
    println!("ready");
    loop {
        std::thread::sleep(LOOK_INTERVAL);
        let sampled = now();
        if blob_bytes(metrics)? > before {
            println!("{quiet}");
            return Ok(());
        }
        quiet = sampled;
    }
}

fn blob_bytes(metrics: SocketAddr) -> Result<u64> {
    let mut stream = TcpStream::connect(metrics)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: {metrics}\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let value = text.lines().find_map(|line| line.strip_prefix(BLOBS_FIGURE)?.trim().parse().ok());
    value.with_context(|| format!("the seed's metrics have no {BLOBS_FIGURE}"))
}

/// The system's time, in seconds since 1970.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_lasts_from_its_first_byte_over_all_its_transfers() {
        assert!((transfer_seconds("0.5 2.5\n0.1 1.0\n").unwrap() - 3.0).abs() < 1e-9);
        assert!(transfer_seconds("").is_err());
    }
}
