//! Where pieces start in the next 64 bytes, found for all of them at once.
//!
//! A scanner that looks at one byte after the other guesses wrong about once a piece, and each
//! wrong guess costs as much as twenty steps. Here each class of ASCII characters becomes one bit
//! for each byte of a window, and the rules of an expression become shifts and masks of these
//! words: the same steps whatever the text. It needs no vector instructions and no `unsafe`.
//!
//! A window opens at the start of a piece, so nothing before it matters. It answers the starts of
//! which it is sure. Where the rules look at what it cannot see (characters beyond ASCII, the end of
//! the window) or are rare (contractions), it stops before, and the scanners of `split` go on.

/// How many bytes a window has.
pub(crate) const WINDOW: usize = 64;

/// What a window found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Starts {
    /// One bit for each byte at which a piece starts, the first byte left out.
    pub(crate) bits: u64,
    /// Whether the piece that starts at the last of them, or at the first byte when there is none, is
    /// best left to the scanners. Without a bit it always is.
    pub(crate) is_hard: bool,
}

/// The rules in which the expressions differ on ASCII.
pub(crate) trait Rules {
    /// Words end where a lower-case letter stands before an upper-case one, and contractions
    /// belong to the word before them.
    const CASED: bool;
    /// Slashes may follow the line ends that follow marks.
    const SLASH: bool;
}

/// The classes of the bytes of a window, one bit each, the first byte lowest.
struct Classes {
    letter: u64,
    digit: u64,
    space: u64,
    /// `[\r\n]`
    line_end: u64,
    /// What tells upper case from lower, and the space from other white space.
    bit_5: u64,
    apostrophe: u64,
    slash: u64,
    beyond_ascii: u64,
}

/// The classes of each byte value: a byte for each class, in the order of [`Classes`], with its lowest bit set or not.
#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
static CLASSES: [u64; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < table.len() {
        let byte = at as u8;
        let is_line_end = byte == b'\n' || byte == b'\r';
        let is_space = byte == b' ' || (byte >= b'\t' && byte <= b'\r');
        let bits = [
            byte.is_ascii_alphabetic(),
            byte.is_ascii_digit(),
            is_space,
            is_line_end,
            byte & 0x20 != 0,
            byte == b'\'',
            byte == b'/',
            !byte.is_ascii(),
        ];
        let mut class = 0;
        while class < bits.len() {
            table[at] |= (bits[class] as u64) << (8 * class);
            class += 1;
        }
        at += 1;
    }
    table
};

#[inline(always)]
fn classes_of(byte: u8) -> u64 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(0)
}

/// Swaps what `mask` selects in `high` with what it selects, `shift` further up, in `low`.
#[inline(always)]
fn exchange(low: &mut u64, high: &mut u64, shift: u32, mask: u64) {
    let differs = (*low >> shift ^ *high) & mask;
    *high ^= differs;
    *low ^= differs << shift;
}

impl Classes {
    /// By a table of two kilobytes rather than by comparing: it is as fast however the program is compiled, and a compiler
    /// that is told to save room makes no vector instructions of comparisons.
    #[inline(always)]
    fn of(window: &[u8; WINDOW]) -> Classes {
        let mut words = [0; WINDOW / 8];
        let chunks: &[[u8; 8]] = window.as_chunks().0;
        for (word, bytes) in words.iter_mut().zip(chunks) {
            // A bit for each byte in the byte of each class, the first byte lowest. A loop would be left as one.
            let [a, b, c, d, e, f, g, h] = *bytes;
            *word = classes_of(a)
                | classes_of(b) << 1
                | classes_of(c) << 2
                | classes_of(d) << 3
                | classes_of(e) << 4
                | classes_of(f) << 5
                | classes_of(g) << 6
                | classes_of(h) << 7;
        }
        // A square of eight by eight bytes, turned: a word for each class.
        let [a, b, c, d, e, f, g, h] = &mut words;
        exchange(a, e, 32, 0xffff_ffff);
        exchange(b, f, 32, 0xffff_ffff);
        exchange(c, g, 32, 0xffff_ffff);
        exchange(d, h, 32, 0xffff_ffff);
        exchange(a, c, 16, 0x0000_ffff_0000_ffff);
        exchange(b, d, 16, 0x0000_ffff_0000_ffff);
        exchange(e, g, 16, 0x0000_ffff_0000_ffff);
        exchange(f, h, 16, 0x0000_ffff_0000_ffff);
        exchange(a, b, 8, 0x00ff_00ff_00ff_00ff);
        exchange(c, d, 8, 0x00ff_00ff_00ff_00ff);
        exchange(e, f, 8, 0x00ff_00ff_00ff_00ff);
        exchange(g, h, 8, 0x00ff_00ff_00ff_00ff);
        let [
            letter,
            digit,
            space,
            line_end,
            bit_5,
            apostrophe,
            slash,
            beyond_ascii,
        ] = words;
        Classes {
            letter,
            digit,
            space,
            line_end,
            bit_5,
            apostrophe,
            slash,
            beyond_ascii,
        }
    }
}

/// The starts of pieces in the window that opens at the start of one.
#[inline(always)]
pub(crate) fn starts<R: Rules>(window: &[u8; WINDOW]) -> Starts {
    let classes = Classes::of(window);
    // What stands before the first character beyond ASCII is seen.
    let seen = below(classes.beyond_ascii);
    let letter = classes.letter & seen;
    let digit = classes.digit & seen;
    let space = classes.space & seen;
    let line_end = classes.line_end & seen;
    let blank = space & classes.bit_5;
    let mark = seen & !(letter | digit | space);
    let next_unseen = !seen >> 1 | 1 << (WINDOW - 1);

    // One mark without a space before it opens the word after it.
    let first_mark = mark & !(mark << 1) & !(blank << 1);
    let opens_word = first_mark & !(mark >> 1) & letter >> 1;
    // Line ends after marks belong to them: the carry runs through each run of them.
    let absorbed = line_end & !line_end.wrapping_add(line_end & mark << 1);
    let free_space = space & !absorbed;
    let gap = space & !line_end;
    // The last space of a run opens what follows, if that takes one, and stands alone otherwise.
    let last_space = gap & !(space >> 1) & !next_unseen;
    let mut digits = digit & !(digit << 1);

    let mut bits = free_space & !(free_space << 1)
        | last_space
        | line_end << 1 & !line_end
        | first_mark
        | letter & !(letter << 1 | opens_word << 1 | gap << 1)
        | digits;
    if R::CASED {
        bits |= letter & !classes.bit_5 & (letter & classes.bit_5) << 1;
    }
    // Numbers are cut into threes.
    let threes = digit & digit << 1 & digit << 2;
    while digits != 0 {
        digits = digits << 3 & threes;
        bits |= digits;
    }

    let apostrophe = classes.apostrophe & seen & (letter >> 1 | next_unseen);
    let (hard, sure) = if R::CASED {
        let slash = if R::SLASH { classes.slash } else { 0 };
        let hard = apostrophe & letter << 1 | slash & absorbed << 1 & seen;
        (hard, below(hard))
    } else {
        // A contraction is a piece of its own.
        let hard = apostrophe & first_mark;
        (hard, below(hard) | hard & hard.wrapping_neg())
    };
    bits &= seen & sure & !1;

    // White space is one piece up to its last line end. When another may come after the gap that
    // follows one, nothing is sure from that gap on.
    let after_line_end = gap & (line_end & !absorbed) << 1;
    let (ends, reaches_end) = gap.overflowing_add(after_line_end);
    let undecided = ends & !gap & (line_end | !seen);
    if undecided != 0 || reaches_end {
        let starts = after_line_end & below(undecided);
        bits &= (u64::MAX >> 1) >> starts.leading_zeros();
    }
    Starts {
        bits,
        is_hard: hard != 0 || bits == 0,
    }
}

/// The bits below the lowest one of these; all when there is none.
#[inline(always)]
fn below(bits: u64) -> u64 {
    (bits & bits.wrapping_neg()).wrapping_sub(1)
}
