// The body's outline on one slice. Private to the room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace tomoserve::compute {

// Air is what lies below this.
inline constexpr float kAirBelowHu = -400;

// How the edge of the field of view meets the body of one slice.
struct EdgeOfView {
  std::size_t cut_air = 0;    // samples of air in regions between parts of the body that the edge cuts
  bool touches_body = false;  // the edge cuts the body
};

// Samples of an image: that of row j, column i is hu[j * row_step + i * column_step].
struct Samples {
  const float* hu = nullptr;
  std::int64_t row_step = 0;
  std::int64_t column_step = 0;
  std::int32_t rows = 0;
  std::int32_t columns = 0;
};

// The circle that touches all sides of a square image, in samples.
struct InnerCircle {
  double row = 0;  // of its centre
  double column = 0;
  double radius = 0;
};

// Finds body, air inside it and the field of view on an image; holds working space. One thread at a time.
class BodySlice {
 public:
  // Marks air inside the body as 1 in `air`, whose rows are `air_row_step` samples apart, else 0. `circle`:
  // of a square image.
  EdgeOfView Find(const Samples& samples, const std::optional<InnerCircle>& circle, std::uint8_t* air,
                  std::size_t air_row_step);

 private:
  enum Mark : std::uint8_t { kOpen, kTissue, kCounted, kBody, kOutside };

  // From the first to the last sample of body on a line.
  struct Span {
    std::int32_t first = 0;
    std::int32_t last = -1;
    bool HasInside(std::int32_t place) const { return first < place && place < last; }
    void Add(std::int32_t place) {
      if (last < 0) first = place;
      last = place;
    }
  };

  std::size_t Index(std::int32_t j, std::int32_t i) const {
    return static_cast<std::size_t>(j) * static_cast<std::size_t>(columns_) + static_cast<std::size_t>(i);
  }
  // Calls `visit` for the samples left, right, above and below.
  template <typename Visit>
  void ForNeighbours(std::size_t at, Visit visit) const;
  // Turns the 4-connected region of `from` around `seed` into `to` and calls `visit` for each of its samples.
  template <typename Visit>
  void Flood(std::size_t seed, Mark from, Mark to, Visit visit);
  // The largest tissue region becomes body, all others open (air passes around a table).
  void KeepLargestTissue();
  void Resize(std::int32_t rows, std::int32_t columns);
  // Sets padding_ from values_.
  void FindPadding(const std::optional<InnerCircle>& circle);
  void PadFromCorners();
  void PadOutside(const InnerCircle& circle);
  // Sets the spans of the body.
  void FindBodySpans();
  bool IsAtEdge(std::size_t at) const;

  std::int32_t rows_ = 0;
  std::int32_t columns_ = 0;
  std::vector<float> values_;
  std::vector<Mark> marks_;
  std::vector<std::uint8_t> padding_;
  std::vector<std::size_t> stack_;
  std::vector<Span> row_spans_;
  std::vector<Span> column_spans_;
};

}  // namespace tomoserve::compute
