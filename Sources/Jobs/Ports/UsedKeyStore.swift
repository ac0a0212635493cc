package import FoundationEssentials

/// Where used keys are found after a restart.
package protocol UsedKeyStore: Sendable {
    func insert(_ key: UsedKey) async throws
    /// What used the key since then.
    func key(_ key: String, _ operation: UsedKey.Operation, since date: Date) async throws -> (digest: [UInt8], use: IdempotencyKeys.Use)?
    func remove(before date: Date) async throws
}
