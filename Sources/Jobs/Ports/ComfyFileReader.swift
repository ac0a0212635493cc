/// Reads files that stay inside a ComfyUI. Knows every ComfyUI by its address, also one that is not configured any more.
package protocol ComfyFileReader: Sendable {
    /// Hands over the whole file, piece by piece. Throws when ComfyUI does not have it (any more) or cannot be reached.
    func read(_ file: ComfyFile, _ take: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Void) async throws
}
