/// Follows the head of a request through the memory of its connection, to find lines that are missing in what libmicrohttpd tells of it.
///
/// A field line that begins with a blank continues the one before (obs-fold, RFC 9112 section 5.2). libmicrohttpd 0.9.75 appends it to the
/// *name* of that field, so that two harmless lines make an `Authorization`, and tells nobody; a server has to refuse such a request. What it
/// does tell is where the names and values lie. It parses in place, with the bytes `:`, CR and LF made zeros, so an honest head is contiguous:
/// every name begins right behind one line end, at most two zeros, and between a name and its value there are the zero of the colon and
/// blanks. A head with a fold never is. The library makes room for the longer name by moving it elsewhere, so it is not where a name has to
/// begin. Or, when the name was the last thing in the memory, by writing over what is behind it: over the value, which then does not begin
/// behind the name; or, if the continuation is no longer than the blanks before the value, over these blanks alone: then the value, its
/// line end and the continuation are untouched, and the next name (or the end of the head) is farther away than one line end.
///
/// A zero that the client sent in the place of a CR is taken for one; there is nothing that it can hide.
struct HeadLayout {
    private var end: UInt
    /// Whether everything up to here lay where it has to.
    private(set) var isIntact = true

    /// Begins behind the version, the end of the request line.
    init(behind version: UnsafeRawPointer, _ size: Int) {
        end = UInt(bitPattern: version) + UInt(size)
    }

    mutating func follow(name: UnsafeRawPointer?, _ nameSize: Int, value: UnsafeRawPointer?, _ valueSize: Int) {
        guard let name, let value, isIntact, isLineEnd(to: UInt(bitPattern: name), 1...2) else { return isIntact = false }
        let (colon, start) = (UInt(bitPattern: name) + UInt(nameSize), UInt(bitPattern: value))
        // A name that was moved or has grown over its value fails before memory between the two is looked at.
        guard start > colon, byte(colon) == 0, ((colon + 1)..<start).allSatisfy({ [UInt8(ascii: " "), UInt8(ascii: "\t")].contains(byte($0)) })
        else { return isIntact = false }
        end = start + UInt(valueSize)
    }

    /// Ends with the last line and the empty one, in front of `headEnd`.
    mutating func finish(before headEnd: UnsafeRawPointer) {
        isIntact = isIntact && isLineEnd(to: UInt(bitPattern: headEnd), 2...4)
    }

    /// Whether there are only so many zeros up to `next`.
    private func isLineEnd(to next: UInt, _ sizes: ClosedRange<UInt>) -> Bool {
        next > end && sizes.contains(next - end) && (end..<next).allSatisfy { byte($0) == 0 }
    }

    private func byte(_ address: UInt) -> UInt8 {
        UnsafeRawPointer(bitPattern: address)?.load(as: UInt8.self) ?? 1
    }
}
