/// Bytes that the bridge keeps itself, each content once, under its hash: uploads, and results that came over ComfyUI's socket and are nowhere else.
///
/// Every asset over a blob holds one reference; the bytes go with the last. Any thread.
package protocol BlobStore: Sendable {
    /// A place for bytes that are still arriving.
    func makeWriter() throws(StorageError) -> any BlobWriter
    func keep(_ bytes: [UInt8]) async throws(StorageError) -> Blob
    /// One more reference to a content that is here; nil when it is not.
    func retain(_ hash: ContentHash) async -> Blob?
    /// One reference less; returns once the bytes are gone, if it was the last. Does nothing for bytes that are kept elsewhere.
    func release(_ blob: Blob) async
}

/// Bytes on their way into a `BlobStore`. What is not kept is removed with the writer.
package protocol BlobWriter: Sendable {
    /// Returns when the bytes are with the operating system.
    func write(_ bytes: [UInt8]) async throws(StorageError)
    /// Of what was written so far.
    var hash: ContentHash { get }
    /// Keeps what was written, under its hash, with one reference for the caller.
    ///
    /// - Returns: also whether the content is new here.
    func keep() async throws(StorageError) -> (blob: Blob, isNew: Bool)
}
