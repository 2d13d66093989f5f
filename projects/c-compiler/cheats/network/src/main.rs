//! A cheat: asks a compiler elsewhere.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::exit;
use std::time::Duration;

fn main() {
    let elsewhere: SocketAddr = "192.0.2.1:80".parse().expect("an address");
    let udp = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"compile", "192.0.2.1:53"));
    match TcpStream::connect_timeout(&elsewhere, Duration::from_secs(2)) {
        Ok(_) => eprintln!("error: somebody answers"),
        Err(error) => eprintln!("error: {}; {:?}", error, udp),
    }
    exit(1);
}
