//! gzip (RFC 1952) with fixed Huffman codes (RFC 1951, 3.2.6) and literals only: no byte of the input stands in the
//! output as it was, which is all a test of reflection needs.

/// The bytes as a gzip member.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    // Magic, deflate, no flags, no time, no extra flags, unknown system.
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let mut bits = Bits::default();
    bits.push(1, 1);
    bits.push(1, 2);
    for byte in bytes {
        let literal = u32::from(*byte);
        if literal < 144 {
            bits.code(0b0011_0000 + literal, 8)
        } else {
            bits.code(0b1_1001_0000 + literal - 144, 9)
        }
    }
    bits.code(0, 7);
    out.extend(bits.finish());
    out.extend(crc32(bytes).to_le_bytes());
    // The field is the length modulo 2^32.
    out.extend((bytes.len() as u32).to_le_bytes());
    out
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    current: u32,
    count: u32,
}

impl Bits {
    /// Adds the lowest `count` bits, lowest first.
    fn push(&mut self, value: u32, count: u32) {
        self.current |= value << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push((self.current & 0xff) as u8);
            self.current >>= 8;
            self.count -= 8;
        }
    }

    /// Adds a Huffman code: highest bit first.
    fn code(&mut self, code: u32, count: u32) {
        self.push(code.reverse_bits() >> (32 - count), count);
    }

    fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.push(0, 8 - self.count);
        }
        self.bytes
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value_of_the_checksum_and_an_empty_member() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(gzip(b"")[10..12], [0x03, 0x00]);
        assert!(!gzip(b"secret value").windows(6).any(|window| window == b"secret"));
    }
}
