import FoundationEssentials

/// The id of a job, which is also ComfyUI's prompt id: a UUIDv4 in canonical lower case, the only form that both
/// ComfyUI versions accept (protocol section 2.1).
package struct JobID: Sendable, Hashable, CustomStringConvertible {
    package let description: String

    /// A new random id.
    package init() { description = JobID.makeUUID() }
    /// An id that came from outside; nil unless it has the canonical form.
    package init?(_ text: String) {
        guard let uuid = UUID(uuidString: text), uuid.uuidString.lowercased() == text else { return nil }
        description = text
    }

    package static func makeUUID() -> String {
        // Without one `UUID()` opens `/dev/urandom` each time.
        var generator = SystemRandomNumberGenerator()
        return UUID.random(using: &generator).uuidString.lowercased()
    }
}
