import FoundationEssentials

/// The id of a job, which is also ComfyUI's prompt id: a UUIDv4 in canonical lower case, the only form that both
/// ComfyUI versions accept (protocol section 2.1).
struct JobID: Sendable, Hashable, CustomStringConvertible {
    let description: String

    /// A new random id.
    init() { description = JobID.makeUUID() }
    /// An id that came from outside; nil unless it has the canonical form.
    init?(_ text: String) {
        guard let uuid = UUID(uuidString: text), uuid.uuidString.lowercased() == text else { return nil }
        description = text
    }

    static func makeUUID() -> String {
        // Without one `UUID()` opens `/dev/urandom` each time.
        var generator = SystemRandomNumberGenerator()
        return UUID.random(using: &generator).uuidString.lowercased()
    }
}
