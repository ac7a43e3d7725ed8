//! Starts on a microcontroller (Cortex-M4F), reads digits and reports to the debugger by semihosting. Compiled for a computer it reports to the
//! terminal: the same text, but for what only a board has to say.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod board {
    use core::fmt::Write;
    use core::panic::PanicInfo;
    use cortex_m_rt::entry;
    use cortex_m_semihosting::debug::{EXIT_FAILURE, EXIT_SUCCESS, exit};
    use cortex_m_semihosting::hio;
    use qgraph_example_bare_metal::{Memory, report};

    #[entry]
    fn main() -> ! {
        // `entry` makes this a `&'static mut`, as `main` is called once.
        static mut MEMORY: Memory = Memory::new();
        let Ok(mut out) = hio::hstdout() else { fail() };
        report(&mut out, MEMORY).expect("a report");
        let _ = writeln!(out, "arena {} bytes, stack {} bytes", MEMORY.bytes().len(), stack());
        exit(EXIT_SUCCESS);
        fail()
    }

    /// Bytes of stack used so far at most: `cortex-m-rt` has painted all of it before `main`.
    fn stack() -> usize {
        unsafe extern "C" {
            static _stack_start: u32;
            static _stack_end: u32;
        }
        let (mut at, top) = (&raw const _stack_end, &raw const _stack_start);
        // SAFETY: below `top` all words down to `_stack_end` are memory that no variable lies in but those of the stack.
        while at < top && unsafe { at.read_volatile() } == 0xcccc_cccc {
            at = at.wrapping_add(1);
        }
        top.addr() - at.addr()
    }

    #[panic_handler]
    fn panicked(what: &PanicInfo<'_>) -> ! {
        if let Ok(mut out) = hio::hstdout() {
            let _ = writeln!(out, "{what}");
        }
        fail()
    }

    fn fail() -> ! {
        exit(EXIT_FAILURE);
        // Without a debugger nobody takes note: stop here.
        loop {
            core::hint::spin_loop();
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    let mut text = String::new();
    qgraph_example_bare_metal::report(&mut text, &mut Default::default()).expect("a report");
    print!("{text}");
}
