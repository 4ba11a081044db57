#include "phantom/anatomy.h"

namespace tomoserve::phantom {

Anatomy MakeAnatomy(double vary, Random& random) {
  // Moved by up to `vary` times low to high: an amount, a share of itself, a count.
  const auto add = [&](double& value, double low, double high) { value += vary * random.Between(low, high); };
  const auto stretch = [&](double& value, double low, double high) {
    value *= 1 + vary * random.Between(low, high);
  };
  const auto count = [&](int& value, int most) {
    value += static_cast<int>(vary * random.Between(0, 1) * (most + 0.999));
  };
  Anatomy anatomy;
  stretch(anatomy.scale, -0.18, 0.1);
  add(anatomy.fat_mm, -6, 24);
  stretch(anatomy.lung_half_z, -0.25, 0.08);
  for (Anatomy::Lung* lung : {&anatomy.right, &anatomy.left}) {
    add(lung->centre[0], -3, 3);
    add(lung->centre[1], -3, 3);
    stretch(lung->half_x, -0.08, 0.07);
    stretch(lung->half_y, -0.12, 0.03);
  }
  add(anatomy.lung_hu, -60, 90);
  stretch(anatomy.lung_hu_per_mm_y, -0.9, 1.2);
  add(anatomy.fat_hu, -15, 10);
  add(anatomy.muscle_hu, -15, 15);
  add(anatomy.soft_hu, -15, 15);
  // Contrast agent, in half of the people, for vessels, heart and liver alike.
  double contrast = 0;
  add(contrast, -180, 180);
  if (contrast < 0) contrast = 0;
  add(anatomy.vessel_hu, -20, 15);
  anatomy.vessel_hu += contrast;
  anatomy.heart_hu += 0.9 * contrast;
  anatomy.liver_hu += 0.3 * contrast;
  add(anatomy.nodule_hu, -40, 60);
  add(anatomy.haze_hu, -90, 110);
  stretch(anatomy.rib_hu, -0.4, 0.6);
  stretch(anatomy.vertebra_hu, -0.4, 0.5);
  for (double& half : anatomy.heart_half) stretch(half, -0.2, 0.15);
  add(anatomy.heart[0], -8, 6);
  stretch(anatomy.liver_top, -0.2, 0.2);
  stretch(anatomy.rib_mm, -0.2, 0.3);
  count(anatomy.more_vessels, 6);
  stretch(anatomy.vessel_mm, -0.25, 0.3);
  stretch(anatomy.vessel_length_mm, -0.2, 0.15);
  stretch(anatomy.vessel_spread, -0.3, 0.3);
  count(anatomy.vessel_depth, 1);
  add(anatomy.nodule_clearance, -0.9, -0.3);
  add(anatomy.feeding_vessels, 0, 0.6);
  count(anatomy.airway_depth, 3);
  add(anatomy.airway_wall_hu, -100, 50);
  anatomy.fissures = random.Between(0, 1) < 0.7 * vary;
  return anatomy;
}

}  // namespace tomoserve::phantom
