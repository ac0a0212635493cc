/// How ImageScale and previews change sizes.
extension Picture {
    /// Nearest neighbour: each row is made once and repeated, so that large previews cost little.
    func scaledNearest(width newWidth: Int, height newHeight: Int) -> Picture {
        guard newWidth != width || newHeight != height else { return self }
        let columns = (0..<newWidth).map { ($0 * width / newWidth) * channels }
        let rowLength = newWidth * channels
        let scaled = [UInt8](unsafeUninitializedCapacity: rowLength * newHeight) { buffer, count in
            pixels.withUnsafeBufferPointer { source in
                var previous = (row: -1, offset: 0)
                for row in 0..<newHeight {
                    let sourceRow = row * height / newHeight
                    let offset = row * rowLength
                    if sourceRow == previous.row {
                        (buffer.baseAddress! + offset).initialize(from: buffer.baseAddress! + previous.offset, count: rowLength)
                    } else {
                        let start = sourceRow * width * channels
                        var target = offset
                        for column in columns {
                            for channel in 0..<channels { buffer[target + channel] = source[start + column + channel] }
                            target += channels
                        }
                        previous = (sourceRow, offset)
                    }
                }
            }
            count = rowLength * newHeight
        }
        return Picture(width: newWidth, height: newHeight, channels: channels, pixels: scaled)
    }

    /// Linear between the four nearest pixels, in 8.8 fixed point.
    func scaledBilinear(width newWidth: Int, height newHeight: Int) -> Picture {
        guard newWidth != width || newHeight != height else { return self }
        let columns = Self.taps(from: width, to: newWidth), rows = Self.taps(from: height, to: newHeight)
        let scaled = [UInt8](unsafeUninitializedCapacity: newWidth * newHeight * channels) { buffer, count in
            pixels.withUnsafeBufferPointer { source in
                var target = 0
                for row in rows {
                    let upper = row.first * width, lower = row.second * width
                    for column in columns {
                        for channel in 0..<channels {
                            let a = Int(source[(upper + column.first) * channels + channel])
                            let b = Int(source[(upper + column.second) * channels + channel])
                            let c = Int(source[(lower + column.first) * channels + channel])
                            let d = Int(source[(lower + column.second) * channels + channel])
                            let top = a * (256 - column.share) + b * column.share
                            let bottom = c * (256 - column.share) + d * column.share
                            buffer[target] = UInt8((top * (256 - row.share) + bottom * row.share) >> 16)
                            target += 1
                        }
                    }
                }
            }
            count = newWidth * newHeight * channels
        }
        return Picture(width: newWidth, height: newHeight, channels: channels, pixels: scaled)
    }

    private static func taps(from old: Int, to new: Int) -> [(first: Int, second: Int, share: Int)] {
        (0..<new).map { index in
            let position = max(0, (index * 2 + 1) * old * 128 / new - 128)  // of the pixel's centre, in 1/256 source pixels
            let first = min(position >> 8, old - 1)
            return (first, min(first + 1, old - 1), position & 0xFF)
        }
    }

    /// The part in the middle that has the given proportions (ImageScale's crop `center`).
    func croppedToCenter(proportionsOf newWidth: Int, _ newHeight: Int) -> Picture {
        let oldAspect = Double(width) / Double(height), newAspect = Double(newWidth) / Double(newHeight)
        var x = 0, y = 0
        if oldAspect > newAspect {
            x = Int(((Double(width) - Double(width) * (newAspect / oldAspect)) / 2).rounded())
        } else if oldAspect < newAspect {
            y = Int(((Double(height) - Double(height) * (oldAspect / newAspect)) / 2).rounded())
        }
        let cropWidth = max(1, width - 2 * x), cropHeight = max(1, height - 2 * y)
        return cropped(x: x, y: y, width: cropWidth, height: cropHeight)
    }

    /// A rectangle; what of it lies outside is cut off, and at least one pixel is left.
    func cropped(x: Int, y: Int, width newWidth: Int, height newHeight: Int) -> Picture {
        let x = min(max(x, 0), width - 1), y = min(max(y, 0), height - 1)
        let newWidth = min(max(newWidth, 1), width - x), newHeight = min(max(newHeight, 1), height - y)
        guard newWidth != width || newHeight != height else { return self }
        var cropped: [UInt8] = []
        cropped.reserveCapacity(newWidth * newHeight * channels)
        for row in y..<y + newHeight {
            let start = (row * width + x) * channels
            cropped += pixels[start..<start + newWidth * channels]
        }
        return Picture(width: newWidth, height: newHeight, channels: channels, pixels: cropped)
    }

    /// The size whose longer side is `longer` and that keeps the proportions, at least 1 x 1.
    static func fitting(width: Int, height: Int, longer: Int) -> (width: Int, height: Int) {
        if width >= height { (longer, max(1, height * longer / width)) } else { (max(1, width * longer / height), longer) }
    }

    /// This picture under noise.
    ///
    /// - Parameter noise: the share of the noise, 0 to 1; `seed` decides its grain.
    func blended(withNoise noise: Float, seed: UInt64) -> Picture {
        guard noise > 0 else { return self }
        let share = Int(min(noise, 1) * 256)
        let noisy = [UInt8](unsafeUninitializedCapacity: pixels.count) { buffer, count in
            var random = SplitMix(state: seed)
            pixels.withUnsafeBufferPointer { source in
                var index = 0
                while index < source.count {
                    var grain = random.next()
                    for offset in index..<min(index + 8, source.count) {
                        buffer[offset] = UInt8((Int(source[offset]) * (256 - share) + Int(grain & 0xFF) * share) >> 8)
                        grain >>= 8
                    }
                    index += 8
                }
            }
            count = pixels.count
        }
        return Picture(width: width, height: height, channels: channels, pixels: noisy)
    }

    /// A mix with a picture of the same size and channels.
    func mixed(with other: Picture, share: Float) -> Picture {
        precondition(other.pixels.count == pixels.count)
        let weight = Int(min(max(share, 0), 1) * 256)
        return Picture(
            width: width, height: height, channels: channels,
            pixels: zip(pixels, other.pixels).map { UInt8((Int($0) * (256 - weight) + Int($1) * weight) >> 8) })
    }
}
