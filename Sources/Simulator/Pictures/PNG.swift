import CImageCodecs

/// PNG files through libpng, and the text chunks in which ComfyUI keeps the workflow.
enum PNG {
    static let signature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]

    static func encode(_ picture: Picture) throws(PictureError) -> [UInt8] {
        let width = UInt32(picture.width), height = UInt32(picture.height), channels = Int32(picture.channels)
        let file = picture.pixels.withUnsafeBufferPointer { pixels in
            let capacity = cpng_capacity(width, height, channels)
            return [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
                count = cpng_write(pixels.baseAddress, width, height, channels, buffer.baseAddress, capacity)
            }
        }
        guard !file.isEmpty else { throw .encodingFailed }
        return file
    }

    static func decode(_ file: [UInt8]) throws(PictureError) -> Picture {
        var width: UInt32 = 0, height: UInt32 = 0, channels: Int32 = 0
        guard cpng_header(file, file.count, &width, &height, &channels) != 0 else { throw .damaged }
        let size = Int(width) * Int(height)
        guard size <= Picture.maximumPixels else { throw .tooLarge }
        var pixels = [UInt8](repeating: 0, count: size * Int(channels))
        guard cpng_read(file, file.count, channels, &pixels) != 0 else { throw .damaged }
        return Picture(width: Int(width), height: Int(height), channels: Int(channels), pixels: pixels)
    }

    /// `file` with a tEXt chunk per entry, right behind IHDR where Pillow puts them. Keys and texts are ASCII, as ComfyUI's are.
    static func adding(_ texts: [(key: String, text: [UInt8])], to file: [UInt8]) -> [UInt8] {
        let headerEnd = 8 + 25  // signature; length, type, 13 bytes of IHDR and its checksum
        precondition(file.count > headerEnd)
        var result: [UInt8] = []
        result.reserveCapacity(file.count + texts.reduce(0) { $0 + $1.key.utf8.count + $1.text.count + 13 })
        result += file[..<headerEnd]
        for (key, text) in texts {
            let start = result.count + 4
            result.append(bigEndian: UInt32(key.utf8.count + 1 + text.count))
            result += "tEXt".utf8
            result += key.utf8
            result.append(0)
            result += text
            let checksum = result[start...].withUnsafeBufferPointer { crc32(0, $0.baseAddress, UInt32($0.count)) }
            result.append(bigEndian: UInt32(checksum))
        }
        result += file[headerEnd...]
        return result
    }

    /// The tEXt chunks of a file, in order.
    static func texts(of file: [UInt8]) -> [(key: String, text: String)] {
        var texts: [(key: String, text: String)] = []
        var position = 8
        while position + 12 <= file.count {
            let length = file[position..<position + 4].reduce(0) { $0 << 8 | Int($1) }
            guard length >= 0, position + 12 + length <= file.count else { return texts }
            let data = file[position + 8..<position + 8 + length]
            if file[position + 4..<position + 8].elementsEqual("tEXt".utf8), let end = data.firstIndex(of: 0) {
                texts.append((String(decoding: data[..<end], as: UTF8.self), String(decoding: data[(end + 1)...], as: UTF8.self)))
            }
            position += 12 + length
        }
        return texts
    }
}

extension [UInt8] {
    /// Four bytes, most significant first.
    mutating func append(bigEndian value: UInt32) {
        append(UInt8(value >> 24))
        append(UInt8(value >> 16 & 0xFF))
        append(UInt8(value >> 8 & 0xFF))
        append(UInt8(value & 0xFF))
    }
}
