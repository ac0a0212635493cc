import PreviewStamp

/// Previews of one size that say when they were sent, for measurements.
enum StampedPreviews {
    /// A JPEG, stamped now.
    static func file(bytes: Int, number: Int, services: RunServices) throws -> [UInt8] {
        var file = try services.frames.value("stamped \(bytes)") {
            let picture = try JPEG.encode(Scene(key: 0).picture(width: 16, height: 16))
            guard let template = PreviewStamp.template(picture, size: bytes) else {
                throw NodeFailure(type: "ValueError", message: "a stamped preview has \(PreviewStamp.minimumSize) bytes at least")
            }
            return template
        }
        PreviewStamp(sentAt: MonotonicClock.now, number: number).write(into: &file)
        return file
    }
}
