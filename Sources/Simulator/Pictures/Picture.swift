import CImageCodecs
import Synchronization

/// An 8-bit raster, immutable, whose PNG is made once.
///
/// Pictures are shared between the worker thread, the result cache and the event loop. Jobs that save the same picture
/// under many names pay for one compression.
final class Picture: Sendable {
    let width: Int
    let height: Int
    /// 3 (RGB) or 4 (RGBA).
    let channels: Int
    /// Rows from the top, without padding: `width * height * channels` bytes.
    let pixels: [UInt8]
    private let encoded = Mutex<[UInt8]?>(nil)

    init(width: Int, height: Int, channels: Int = 3, pixels: [UInt8]) {
        precondition(pixels.count == width * height * channels && (channels == 3 || channels == 4))
        self.width = width
        self.height = height
        self.channels = channels
        self.pixels = pixels
    }

    /// One colour, given as 0xRRGGBB.
    convenience init(width: Int, height: Int, color: Int) {
        let pixel = [UInt8(color >> 16 & 0xFF), UInt8(color >> 8 & 0xFF), UInt8(color & 0xFF)]
        let pixels = [UInt8](unsafeUninitializedCapacity: width * height * 3) { buffer, count in
            for index in 0..<width * height * 3 { buffer[index] = pixel[index % 3] }
            count = width * height * 3
        }
        self.init(width: width, height: height, pixels: pixels)
    }

    /// The file without text chunks.
    func png() throws(PictureError) -> [UInt8] {
        if let file = encoded.withLock({ $0 }) { return file }
        let file = try PNG.encode(self)
        encoded.withLock { $0 = file }
        return file
    }

    /// The picture with only its colours.
    func withoutAlpha() -> Picture {
        guard channels == 4 else { return self }
        let colors = [UInt8](unsafeUninitializedCapacity: width * height * 3) { buffer, count in
            for index in 0..<width * height {
                for channel in 0..<3 { buffer[index * 3 + channel] = pixels[index * 4 + channel] }
            }
            count = width * height * 3
        }
        return Picture(width: width, height: height, pixels: colors)
    }

    /// The alpha of each pixel, 255 where there is none.
    func alpha() -> [UInt8] {
        guard channels == 4 else { return [UInt8](repeating: 255, count: width * height) }
        return (0..<width * height).map { pixels[$0 * 4 + 3] }
    }

    /// This picture's colours with another alpha, one byte per pixel.
    func withAlpha(_ alpha: [UInt8]) -> Picture {
        precondition(alpha.count == width * height)
        let combined = [UInt8](unsafeUninitializedCapacity: width * height * 4) { buffer, count in
            for index in 0..<width * height {
                for channel in 0..<3 { buffer[index * 4 + channel] = pixels[index * channels + channel] }
                buffer[index * 4 + 3] = alpha[index]
            }
            count = width * height * 4
        }
        return Picture(width: width, height: height, channels: 4, pixels: combined)
    }

    func inverted() -> Picture {
        Picture(width: width, height: height, channels: channels, pixels: pixels.map { 255 - $0 })
    }
}

enum PictureError: Error, Equatable {
    /// The bytes are none of the formats that the simulator reads (PNG, JPEG).
    case unknownFormat
    case damaged
    /// More pixels than `Picture.maximumPixels`.
    case tooLarge
    case encodingFailed
}

extension Picture {
    /// What a file may decode to, 64 megapixels: a small file can claim any size.
    static let maximumPixels = 64 << 20

    /// A PNG or JPEG file, told apart by its first bytes.
    static func decode(_ file: [UInt8]) throws(PictureError) -> Picture {
        if file.starts(with: PNG.signature) { return try PNG.decode(file) }
        if file.starts(with: [0xFF, 0xD8]) { return try JPEG.decode(file) }
        throw .unknownFormat
    }
}
