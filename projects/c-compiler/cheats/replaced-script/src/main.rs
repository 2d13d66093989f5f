//! `ccc FILE.c -o OUT`: compiles one C file to an x86-64 Linux program.

use std::env;
use std::process::exit;

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let message = match arguments(&words) {
        Some((file, _out)) => format!("{}: nothing can be compiled yet", file),
        None => "usage: ccc FILE.c -o OUT".to_string(),
    };
    eprintln!("error: {}", message);
    exit(1);
}

/// The file to compile and the program to write.
fn arguments(words: &[String]) -> Option<(&str, &str)> {
    match words {
        [file, flag, out] | [flag, out, file] if flag == "-o" => Some((file, out)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::arguments;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(String::from).collect()
    }

    #[test]
    fn the_output_may_be_named_first_or_last() {
        assert_eq!(arguments(&words("a.c -o a")), Some(("a.c", "a")));
        assert_eq!(arguments(&words("-o a a.c")), Some(("a.c", "a")));
    }

    #[test]
    fn a_missing_output_is_refused() {
        assert_eq!(arguments(&words("a.c")), None);
    }
}
