import Synchronization

/// The random part of temporary file names, per node id, for as long as graphs with that node follow each other.
final class NodeLetters: Sendable {
    /// ComfyUI's, typing error included.
    private static let alphabet = "abcdefghijklmnopqrstupvxyz"

    private let known = Mutex<[String: String]>([:])

    func letters(of id: String) -> String {
        known.withLock { known in
            if let letters = known[id] { return letters }
            let letters = String((0..<5).compactMap { _ in Self.alphabet.randomElement() })
            known[id] = letters
            return letters
        }
    }

    /// Forgets the nodes that the next graph does not have.
    func keep(_ ids: some Sequence<String>) {
        let ids = Set(ids)
        known.withLock { known in known = known.filter { ids.contains($0.key) } }
    }
}
