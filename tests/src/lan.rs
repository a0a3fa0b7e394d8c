//! A LAN: a bridge on this machine, and a network namespace for each device on it. It needs root.
//!
//! Not here: devices, see [`crate::device`]; slow links and routers, which the lab has.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::device::Device;
use crate::process::Outcome;

/// LANs of this process so far; with its number they give each its own names and addresses.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A LAN, gone when it is dropped.
#[derive(Debug)]
pub struct Lan {
    name: String,
    prefix: String,
    places: Vec<Place>,
}

/// Where a device is plugged in.
#[derive(Clone, Debug)]
pub struct Place {
    /// The network namespace.
    pub namespace: String,
    /// Its address, an IPv6 one in brackets.
    pub address: String,
}

impl Lan {
    /// A LAN whose bridge has the first address of its own prefix: who runs on this machine, such as a seed, is reached there.
    ///
    /// # Panics
    /// When the tests do not run as root.
    #[track_caller]
    pub fn new() -> Self {
        let number = std::process::id().wrapping_mul(4).wrapping_add(MADE.fetch_add(1, Ordering::Relaxed));
        let name = format!("hg{:x}", number & 0xff_ffff);
        let prefix = format!("10.{}.{}", 64 + (number >> 8 & 0x3f), number & 0xff);
        ip(&["link", "add", &name, "type", "bridge", "mcast_snooping", "0"]);
        let lan = Self { name, prefix, places: Vec::new() };
        ip(&["address", "add", &format!("{}/24", lan.router()), "dev", &lan.name]);
        ip(&["link", "set", &lan.name, "up"]);
        lan
    }

    /// The address of this machine on the LAN.
    pub fn router(&self) -> String {
        format!("{}.1", self.prefix)
    }

    /// A new namespace with a cable to the bridge, its end called `eth0`.
    #[track_caller]
    pub fn plug(&mut self) -> Place {
        let number = self.places.len() + 2;
        let place = self.plug_in(format!("{}.{number}", self.prefix), number);
        place.run(&["ip", "address", "add", &format!("{}/24", place.address), "dev", "eth0"]);
        place.run(&["ip", "link", "set", "eth0", "up"]);
        place
    }

    /// Gives the bridge an IPv6 address of the LAN's own prefix.
    #[track_caller]
    pub fn add_ipv6(&self) -> String {
        let address = self.ipv6(1);
        ip(&["address", "add", &format!("{address}/64"), "dev", &self.name, "nodad"]);
        address
    }

    /// A new namespace like that of [`Self::plug`], with IPv6 alone.
    #[track_caller]
    pub fn plug_ipv6(&mut self) -> Place {
        let number = self.places.len() + 2;
        let place = self.plug_in(format!("[{}]", self.ipv6(number)), number);
        place.run(&["sysctl", "-q", "-w", "net.ipv6.conf.eth0.accept_dad=0"]);
        place.run(&["ip", "address", "add", &format!("{}/64", self.ipv6(number)), "dev", "eth0", "nodad"]);
        place.run(&["ip", "link", "set", "eth0", "up"]);
        place
    }

    /// Pulls all cables.
    #[track_caller]
    pub fn unplug_all(&self) {
        self.set_ports("down");
    }

    /// Plugs all of them in again, at once.
    #[track_caller]
    pub fn plug_all(&self) {
        self.set_ports("up");
    }

    #[track_caller]
    fn set_ports(&self, state: &str) {
        for number in 2..self.places.len() + 2 {
            ip(&["link", "set", &format!("{}p{number}", self.name), state]);
        }
    }

    fn ipv6(&self, number: usize) -> String {
        format!("fd00:{}::{number:x}", self.prefix.replace('.', ":"))
    }

    #[track_caller]
    fn plug_in(&mut self, address: String, number: usize) -> Place {
        let place = Place { namespace: format!("{}-{number}", self.name), address };
        let port = format!("{}p{number}", self.name);
        ip(&["netns", "add", &place.namespace]);
        self.places.push(place.clone());
        ip(&["link", "add", &port, "master", &self.name, "type", "veth", "peer", "name", "eth0", "netns", &place.namespace]);
        ip(&["link", "set", &port, "up"]);
        place.run(&["ip", "link", "set", "lo", "up"]);
        place
    }
}

impl Default for Lan {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for place in &self.places {
            let _ = Command::new("ip").args(["netns", "delete", &place.namespace]).status();
        }
        let _ = Command::new("ip").args(["link", "delete", &self.name]).status();
    }
}

impl Place {
    /// Runs a command here, which must succeed.
    #[track_caller]
    pub fn run(&self, command: &[&str]) -> Outcome {
        Outcome::of(Command::new("ip").args(["netns", "exec", &self.namespace]).args(command)).succeeded()
    }

    /// Starts a device here, on all its interfaces; only its metrics are tied to its address, so that this test reads them.
    #[track_caller]
    pub fn start(&self, device: &mut Device, flags: &[&str]) {
        let metrics = format!("{}:0", self.address);
        let flags = [&["--swarm-listen", "[::]:7446", "--metrics-listen", &metrics], flags].concat();
        device.run_as(self.inside(&device.run_command(&flags)));
    }

    /// The same command, run here.
    pub fn inside(&self, inner: &Command) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(inner.get_program()).args(inner.get_args()).env_clear();
        command.envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command
    }
}

#[track_caller]
fn ip(arguments: &[&str]) {
    Outcome::of(Command::new("ip").args(arguments)).succeeded();
}
