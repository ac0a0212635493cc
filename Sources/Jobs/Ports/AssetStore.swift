package import FoundationEssentials

/// Where assets are found again. As with jobs, what is inserted is kept before any caller hears of it.
package protocol AssetStore: Sendable {
    /// Keeps an asset, or what has changed of one. The asset of an output may be kept together with its job instead, as soon as the job
    /// has it.
    func insert(_ asset: Asset) async throws
    /// Forgets an asset; nil when there was none.
    func remove(_ id: String) async throws -> Asset?
    /// The hash of the asset's bytes has become known.
    func recordHash(of asset: Asset) async throws

    func asset(_ id: String) async throws -> Asset?
    /// Any asset with these bytes.
    func asset(withHash hash: ContentHash) async throws -> Asset?
    /// The newest upload with this path.
    func upload(at filePath: String) async throws -> Asset?
    /// The upload that differs from the given one in nothing but its id and its times.
    func upload(like asset: Asset) async throws -> Asset?
    /// Uploads whose time is up.
    func expired(before date: Date) async throws -> [Asset]
}
