//! Machines on one: network namespaces, each pair connected by a cable of its own (veth) that can be cut. Needs root.

use std::process::Command;

/// A network of so many machines, which ends with the value.
pub struct Network {
    names: Vec<String>,
    subnet: u8,
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).output().is_ok_and(|output| output.status.success())
}

impl Network {
    /// Sets it up; `None`, and a word why, where that can't be had.
    #[must_use]
    pub fn start(machines: usize) -> Option<Self> {
        // Several tests run at once, by whoever: the names tell them apart, and each network is its own.
        let id = std::process::id();
        let network =
            Self { names: (0..machines).map(|n| format!("fink-{id}-{n}")).collect(), subnet: u8::try_from(id % 200).expect("small") + 20 };
        if network.set_up() {
            return Some(network);
        }
        println!("skipped: network namespaces need root (CAP_NET_ADMIN) and iproute2");
        None
    }

    fn set_up(&self) -> bool {
        let count = self.names.len();
        let made = self.names.iter().enumerate().all(|(n, name)| {
            ip(&["netns", "add", name])
                && ip(&["-n", name, "link", "set", "lo", "up"])
                && ip(&["-n", name, "addr", "add", &format!("{}/32", self.address(n)), "dev", "lo"])
        });
        made && (0..count).all(|a| (a + 1..count).all(|b| self.lay(a, b)))
    }

    /// Lays the cable between two machines.
    fn lay(&self, a: usize, b: usize) -> bool {
        let (at_a, at_b) = (format!("to{b}"), format!("to{a}"));
        ip(&["-n", &self.names[a], "link", "add", &at_a, "type", "veth", "peer", "name", &at_b, "netns", &self.names[b]])
            && self.plug(a, b)
            && self.plug(b, a)
    }

    fn plug(&self, here: usize, there: usize) -> bool {
        let (name, cable) = (&self.names[here], format!("to{there}"));
        ip(&["-n", name, "link", "set", &cable, "up"])
            && ip(&["-n", name, "route", "replace", &format!("{}/32", self.address(there)), "dev", &cable, "src", &self.address(here)])
    }

    /// A machine's address.
    #[must_use]
    pub fn address(&self, machine: usize) -> String {
        format!("10.{}.0.{}", self.subnet, machine + 1)
    }

    /// The namespace that a machine is.
    #[must_use]
    pub fn name(&self, machine: usize) -> &str {
        &self.names[machine]
    }

    /// Cuts the cable between two machines: packets vanish.
    pub fn cut(&self, a: usize, b: usize) {
        let cut = ip(&["-n", &self.names[a], "link", "set", &format!("to{b}"), "down"]);
        assert!(cut, "can't cut {a}-{b}");
    }

    /// Mends it.
    pub fn mend(&self, a: usize, b: usize) {
        assert!(self.plug(a, b) && self.plug(b, a), "can't mend {a}-{b}");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            // It may never have been made.
            let _ = ip(&["netns", "del", name]);
        }
    }
}
