import CImageCodecs

/// JPEG files through libjpeg-turbo.
enum JPEG {
    /// - Parameter quality: 1 to 100; ComfyUI's previews have 95.
    static func encode(_ picture: Picture, quality: Int = 95) throws(PictureError) -> [UInt8] {
        guard let compressor = tjInitCompress() else { throw .encodingFailed }
        defer { tjDestroy(compressor) }
        let format = Int32(picture.channels == 4 ? TJPF_RGBA.rawValue : TJPF_RGB.rawValue)
        var size: UInt = 0
        var file: UnsafeMutablePointer<UInt8>?
        defer { tjFree(file) }  // allocated by tjCompress2
        let status = picture.pixels.withUnsafeBufferPointer { pixels in
            tjCompress2(
                compressor, pixels.baseAddress, Int32(picture.width), 0, Int32(picture.height), format, &file, &size,
                Int32(TJSAMP_420.rawValue), Int32(min(max(quality, 1), 100)), TJFLAG_FASTDCT)
        }
        guard status == 0, let file else { throw .encodingFailed }
        return Array(UnsafeBufferPointer(start: file, count: Int(size)))
    }

    static func decode(_ file: [UInt8]) throws(PictureError) -> Picture {
        guard let decompressor = tjInitDecompress() else { throw .damaged }
        defer { tjDestroy(decompressor) }
        var width: Int32 = 0, height: Int32 = 0, sampling: Int32 = 0, colorspace: Int32 = 0
        let size = UInt(file.count)
        guard tjDecompressHeader3(decompressor, file, size, &width, &height, &sampling, &colorspace) == 0 else { throw .damaged }
        guard Int(width) * Int(height) <= Picture.maximumPixels else { throw .tooLarge }
        var pixels = [UInt8](repeating: 0, count: Int(width) * Int(height) * 3)
        guard tjDecompress2(decompressor, file, size, &pixels, width, 0, height, Int32(TJPF_RGB.rawValue), 0) == 0 else { throw .damaged }
        return Picture(width: Int(width), height: Int(height), pixels: pixels)
    }
}
