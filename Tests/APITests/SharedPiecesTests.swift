import Testing

@testable import API
@testable import Jobs

@Suite struct SharedPiecesTests {
    private func piece(_ base: String, at start: UInt64) -> EventPiece {
        EventPiece(kind: EncodingKey(previews: .url, base: base), start: start, end: start + 1, previews: nil, bytes: Array("\(base)\(start)".utf8))
    }

    private func bytes(_ pieces: SharedPieces, _ base: String, at start: UInt64) -> String? {
        pieces.piece(for: EncodingKey(previews: .url, base: base), at: start).map { String(decoding: $0.bytes, as: UTF8.self) }
    }

    @Test func aPieceIsForOneKindAtOnePlace() {
        let pieces = SharedPieces()
        pieces.add(piece("a", at: 1))
        #expect(bytes(pieces, "a", at: 1) == "a1")
        #expect(bytes(pieces, "b", at: 1) == nil)
        #expect(bytes(pieces, "a", at: 2) == nil)
        #expect(pieces.piece(for: EncodingKey(previews: .none, base: "a"), at: 1) == nil)
        #expect(pieces.piece(for: EncodingKey(previews: .url, includesNative: true, base: "a"), at: 1) == nil)
    }

    @Test func theNewestAreKept() {
        let pieces = SharedPieces()
        for start in UInt64(1)...6 { pieces.add(piece("a", at: start)) }
        #expect((1...6).map { bytes(pieces, "a", at: $0) } == [nil, nil, "a3", "a4", "a5", "a6"])
    }

    @Test func whoIsBehindPushesNothingOut() {
        let pieces = SharedPieces()
        pieces.add(piece("a", at: 9))
        #expect(!pieces.wantsPiece(at: 8))
        pieces.add(piece("a", at: 8))
        #expect(bytes(pieces, "a", at: 8) == nil)
    }

    @Test func kindsBeyondAHandfulAreNotShared() {
        let pieces = SharedPieces()
        for base in ["a", "b", "c", "d", "e"] { pieces.add(piece(base, at: 1)) }
        #expect(["a", "d", "e"].map { bytes(pieces, $0, at: 1) } == ["a1", "d1", nil])
        #expect(!pieces.wantsPiece(at: 1))
        #expect(pieces.wantsPiece(at: 2))
    }

    @Test func nothingIsKeptOnceForgotten() {
        let pieces = SharedPieces()
        pieces.add(piece("a", at: 1))
        pieces.forget()
        pieces.add(piece("a", at: 2))
        #expect(bytes(pieces, "a", at: 1) == nil && bytes(pieces, "a", at: 2) == nil)
        #expect(!pieces.wantsPiece(at: 3))
    }
}
